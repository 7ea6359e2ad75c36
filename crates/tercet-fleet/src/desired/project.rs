//! What is decided from: the same for all machines of a project.

use tercet_config::Topology;

use crate::secrets::Secrets;

/// What all machines of a project share.
#[derive(Debug)]
pub struct Project<'a> {
    /// What the person wrote.
    pub topology: &'a Topology,
    /// The secrets and certificates, kept by the operator.
    pub secrets: &'a Secrets,
    /// Where tercet's own binary is on every machine.
    pub program: &'a str,
}
