//! The application of a project on machines. They run one so far: `tercet-config` refuses more.

use tercet_config::{Application, Topology};

/// The application that the machines run.
pub(crate) fn application(topology: &Topology) -> &Application {
    &topology.applications()[0]
}
