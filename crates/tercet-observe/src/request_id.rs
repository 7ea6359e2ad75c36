//! The request id, the same in the log lines of every tier.

use uuid::{ContextV7, Timestamp, Uuid};

/// The header's name.
pub const HEADER: &str = "x-request-id";

/// A fresh id: a UUIDv7 (RFC 9562 section 5.7), so ids sort by time; those of one thread in their order.
pub fn fresh() -> Uuid {
    thread_local! {
        // One for all threads would be behind a lock.
        static CONTEXT: ContextV7 = const { ContextV7::new() };
    }
    CONTEXT.with(|context| Uuid::new_v7(Timestamp::now(context)))
}

/// Whether an id from a trusted peer is valid: 1 to 128 visible ASCII characters without quotes,
/// backslash or comma.
pub fn is_acceptable(id: &[u8]) -> bool {
    (1..=128).contains(&id.len())
        && id.iter().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b','))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_from_peers_are_bounded_and_printable() {
        assert!(is_acceptable(fresh().to_string().as_bytes()));
        assert!(is_acceptable(b"abc-123"));
        for refused in [&b""[..], b"a b", b"a\nb", b"a\"b", b"\xff", &[b'a'; 129]] {
            assert!(!is_acceptable(refused), "{refused:?}");
        }
    }
}
