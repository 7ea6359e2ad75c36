//! The input of a desired state: the same for all machines of a project.

use tercet_config::Topology;

use crate::secrets::Secrets;

/// What all machines of a project share.
#[derive(Debug)]
pub struct Project<'a> {
    /// The topology of `tercet.toml`.
    pub topology: &'a Topology,
    /// The secrets and certificates, kept by the operator.
    pub secrets: &'a Secrets,
    /// Where tercet's own binary is on every machine.
    pub program: &'a str,
    /// The project's own checks of restored copies: the name and text of each SQL file.
    pub checks: &'a [(String, String)],
}
