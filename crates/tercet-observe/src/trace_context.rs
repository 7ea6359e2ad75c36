//! W3C Trace Context, level 1: the `traceparent` header.

use uuid::Uuid;

/// The name of the header.
pub const HEADER: &str = "traceparent";

/// Whether `value` is a version-00 traceparent with a trace id and a parent id that are not zero
/// (W3C Trace Context section 3.2.2).
pub fn is_valid(value: &[u8]) -> bool {
    let hex = |range: std::ops::Range<usize>| {
        let field = &value[range];
        field.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && field.iter().any(|byte| *byte != b'0')
    };
    value.len() == 55
        && value.starts_with(b"00-")
        && hex(3..35)
        && value[35] == b'-'
        && hex(36..52)
        && value[52] == b'-'
        && value[53..].iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A new, sampled traceparent whose trace id is the request id.
pub fn from_request_id(id: Uuid) -> [u8; 55] {
    let (_, low) = id.as_u64_pair();
    let mut value = *b"00-00000000000000000000000000000000-0000000000000000-01";
    id.as_simple().encode_lower(&mut value[3..35]);
    let mut parent = [0; 32];
    Uuid::from_u64_pair(0, low | 1).as_simple().encode_lower(&mut parent);
    value[36..52].copy_from_slice(&parent[16..]);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_standard_form_is_valid() {
        assert!(is_valid(&from_request_id(crate::request_id::fresh())));
        let id = Uuid::from_u128(0x0190_1234_5678_7abc_8def_0123_4567_89aa);
        assert_eq!(&from_request_id(id), b"00-0190123456787abc8def0123456789aa-8def0123456789ab-01");
        assert!(is_valid(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        for refused in [
            &b"00-00000000000000000000000000000000-00f067aa0ba902b7-01"[..],
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            b"",
        ] {
            assert!(!is_valid(refused));
        }
    }
}
