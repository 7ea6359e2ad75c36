//! What counts as one client: an IPv4 address, or an IPv6 /64, the smallest network that providers assign.

use std::net::IpAddr;

/// The number that stands for a client.
pub(crate) fn key(client: IpAddr) -> u128 {
    match client {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}
