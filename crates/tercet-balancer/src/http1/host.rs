//! The authority of a request: `Host`, and the authority of an absolute-form target (RFC 3986 section 3.2).

use std::net::Ipv6Addr;

/// Whether `text` is `uri-host [ ":" port ]` with a non-empty host. User information, unroutable address forms
/// (IPvFuture, zone ids) and commas (a sign of two merged fields) are invalid.
pub(crate) fn is_valid(text: &[u8]) -> bool {
    let (host, port) = split(text);
    let host_is_valid = match host {
        [b'[', address @ .., b']'] => {
            str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
        }
        _ => is_name(host),
    };
    host_is_valid && port.is_none_or(is_port)
}

/// The host of an authority, without its port.
pub fn without_port(authority: &[u8]) -> &[u8] {
    split(authority).0
}

/// Whether two authorities are equal; an absent or empty port is `default_port`.
pub(super) fn agree(one: &[u8], other: &[u8], default_port: &[u8]) -> bool {
    let (one_host, one_port) = split(one);
    let (other_host, other_port) = split(other);
    let [one_port, other_port] =
        [one_port, other_port].map(|port| port.filter(|port| !port.is_empty()).unwrap_or(default_port));
    one_host.eq_ignore_ascii_case(other_host) && one_port == other_port
}

fn split(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let after_address = authority.iter().rposition(|byte| *byte == b']').unwrap_or(0);
    match authority[after_address..].iter().position(|byte| *byte == b':') {
        Some(colon) => {
            let colon = after_address + colon;
            (&authority[..colon], Some(&authority[colon + 1..]))
        }
        None => (authority, None),
    }
}

/// `reg-name` without the comma; includes IPv4 addresses.
fn is_name(name: &[u8]) -> bool {
    let mut bytes = name.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b'!'
            | b'$'
            | b'&'
            | b'\''
            | b'('
            | b')'
            | b'*'
            | b'+'
            | b';'
            | b'=' => {}
            b'%' => {
                let digits = [bytes.next(), bytes.next()];
                if !digits.iter().all(|digit| digit.is_some_and(u8::is_ascii_hexdigit)) {
                    return false;
                }
            }
            _ => return false,
        }
    }
    !name.is_empty()
}

fn is_port(port: &[u8]) -> bool {
    port.is_empty()
        || (port.iter().all(u8::is_ascii_digit) && number(port).is_some_and(|port| port <= 65_535))
}

fn number(digits: &[u8]) -> Option<u32> {
    str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_follow_rfc_3986() {
        for valid in [
            "example.com",
            "example.com:80",
            "example.com:",
            "EXAMPLE",
            "a_b.internal",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:443",
            "[::ffff:192.0.2.1]",
            "caf%C3%A9.example",
            "a",
            "1",
        ] {
            assert!(is_valid(valid.as_bytes()), "{valid}");
        }
        for invalid in [
            "",
            ":",
            ":80",
            "[::zz]",
            "[::1",
            "::1",
            "[]",
            "[::1]x",
            "[::1]:x",
            "[fe80::1%25eth0]",
            "[v1.x]",
            "user@example.com",
            "example.com:80:80",
            "example.com:+80",
            "example.com:65536",
            "a,b",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a%zz",
            "a%4",
            "caf\u{e9}",
            "a\tb",
            "a\"b",
            "<a>",
        ] {
            assert!(!is_valid(invalid.as_bytes()), "{invalid}");
        }
    }

    #[test]
    fn comparing_authorities_ignores_case_and_the_default_port() {
        assert!(agree(b"Example.com", b"example.COM:80", b"80"));
        assert!(agree(b"example.com:", b"example.com", b"443"));
        assert!(agree(b"[::1]:80", b"[::1]", b"80"));
        assert!(!agree(b"example.com:443", b"example.com", b"80"));
        assert!(!agree(b"example.com", b"example.org", b"80"));
        assert_eq!(without_port(b"[::1]:80"), b"[::1]");
        assert_eq!(without_port(b"a:80"), b"a");
    }
}
