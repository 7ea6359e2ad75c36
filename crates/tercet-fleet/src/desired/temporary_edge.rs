//! What stays open on a machine while others leave the project: their application servers finish their requests first.

use std::net::IpAddr;

use tercet_config::Tier;

/// An edge that the topology no longer has and that is still used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemporaryEdge {
    /// The client: the machine's name and address.
    pub from: (String, IpAddr),
    /// The client's tier.
    pub client: Tier,
    /// The server: the machine's name and address.
    pub to: (String, IpAddr),
    /// The tier there.
    pub tier: Tier,
    /// The TCP port.
    pub port: u16,
}
