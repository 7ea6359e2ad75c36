//! The addresses that connections between tiers may use.

use std::net::IpAddr;

/// Whether an address is not routed on the internet: a private one (RFC 1918), one of the shared address space (RFC
/// 6598, which overlay networks use) or a unique local one (RFC 4193).
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_private() || (first == 100 && (64..128).contains(&second))
        }
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_is_what_nobody_outside_can_reach() {
        for (address, private) in [
            ("10.0.0.1", true),
            ("172.31.0.1", true),
            ("192.168.1.1", true),
            ("100.64.0.1", true),
            ("fd00::1", true),
            ("203.0.113.1", false),
            ("100.128.0.1", false),
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("fe80::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_private(address.parse().unwrap()), private, "{address}");
        }
    }
}
