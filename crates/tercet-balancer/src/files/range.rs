//! `Range`: the part of a file that a client asks for (RFC 9110 section 14).
//!
//! One range is supported. A request for several gets the whole file, as section 14.2 permits: each costs a client nothing
//! to ask for, and the balancer much to answer.

/// The part of a representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it: there is no range, or none that is understood.
    Whole,
    /// From the first byte to the last, both included; never beyond the end.
    Bytes(u64, u64),
    /// None of its bytes is asked for.
    Unsatisfiable,
}

/// The part of a representation with `length` bytes that the value of `Range` asks for.
pub fn parse(value: &[u8], length: u64) -> Part {
    let unit = value.get(..6).is_some_and(|unit| unit.eq_ignore_ascii_case(b"bytes="));
    // Some clients always send a range; an empty file has no part to send.
    if !unit || length == 0 {
        return Part::Whole;
    }
    let range = value[6..].trim_ascii();
    let mut ends = range.splitn(2, |byte| *byte == b'-');
    let (Some(first), Some(last)) = (ends.next(), ends.next()) else { return Part::Whole };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Part::Whole,
        (Some(first), _) if first >= length && (last.is_empty() || number(last).is_some()) => {
            Part::Unsatisfiable
        }
        (Some(first), Some(last)) => Part::Bytes(first, last.min(length - 1)),
        (Some(first), None) if last.is_empty() => Part::Bytes(first, length - 1),
        (None, Some(0)) if first.is_empty() => Part::Unsatisfiable,
        (None, Some(suffix)) if first.is_empty() => Part::Bytes(length - suffix.min(length), length - 1),
        _ => Part::Whole,
    }
}

/// A number of digits only; one that does not fit is the greatest.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_rfc_9110() {
        for (value, expected) in [
            ("bytes=0-0", Part::Bytes(0, 0)),
            ("bytes=0-", Part::Bytes(0, 99)),
            ("Bytes=10-19", Part::Bytes(10, 19)),
            ("bytes=90-1000", Part::Bytes(90, 99)),
            ("bytes=-1", Part::Bytes(99, 99)),
            ("bytes=-1000", Part::Bytes(0, 99)),
            ("bytes=0-99999999999999999999999", Part::Bytes(0, 99)),
            ("bytes=100-", Part::Unsatisfiable),
            ("bytes=100-200", Part::Unsatisfiable),
            ("bytes=99999999999999999999999-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=5-4", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("bytes=200-x", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=1--2", Part::Whole),
            ("bytes 0-1", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(parse(value.as_bytes(), 100), expected, "{value}");
        }
        assert_eq!(parse(b"bytes=0-", 0), Part::Whole);
    }
}
