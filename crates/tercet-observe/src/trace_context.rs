//! W3C Trace Context, level 1: the `traceparent` header.

use uuid::Uuid;

/// The name of the header.
pub const HEADER: &str = "traceparent";
/// The name of the header with the state of other tracing systems.
pub const STATE: &str = "tracestate";

/// Where a request is in a trace: the span of this tier, and the one that it is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace, never zero.
    pub trace_id: u128,
    /// The span of the client; `None` if the trace begins here.
    pub parent: Option<u64>,
    /// The span of this tier, never zero.
    pub span_id: u64,
    /// Whether the trace is sampled.
    pub is_sampled: bool,
}

/// The content of a valid `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    trace_id: u128,
    span_id: u64,
    is_sampled: bool,
}

impl Parent {
    /// Whether the trace is sampled.
    pub fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// Parses the value of the header (W3C Trace Context section 3.2.2). A later version is read as far as it is like this one (section
    /// 4.3); `None` if the value is malformed, and then a trace begins.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (fields, rest) = value.split_at_checked(55)?;
        let version = number(&fields[0..2]).filter(|version| *version != 0xff)?;
        let (high, low) = (number(&fields[3..19])?, number(&fields[19..35])?);
        let trace_id = u128::from(high) << 64 | u128::from(low);
        let (span_id, flags) = (number(&fields[36..52])?, number(&fields[53..55])?);
        let has_rest = if version == 0 { !rest.is_empty() } else { !rest.is_empty() && rest[0] != b'-' };
        let is_separated = [fields[2], fields[35], fields[52]] == *b"---";
        if has_rest || !is_separated || trace_id == 0 || span_id == 0 {
            return None;
        }
        Some(Self { trace_id, span_id, is_sampled: flags & 1 == 1 })
    }
}

/// Lower-case hexadecimal digits, at most 16.
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })
}

impl TraceContext {
    /// A trace that begins here; its id is the request's.
    pub fn begun(id: Uuid, is_sampled: bool) -> Self {
        Self { trace_id: id.as_u128(), parent: None, span_id: span_id(id), is_sampled }
    }

    /// The trace of a client, with a new span for the request.
    pub fn continued(parent: Parent, id: Uuid) -> Self {
        let Parent { trace_id, span_id: client, is_sampled } = parent;
        Self { trace_id, parent: Some(client), span_id: span_id(id), is_sampled }
    }

    /// The value of `traceparent` for the next tier.
    pub fn header(&self) -> [u8; 55] {
        let mut value = *b"00-00000000000000000000000000000000-0000000000000000-00";
        Uuid::from_u128(self.trace_id).as_simple().encode_lower(&mut value[3..35]);
        let mut parent = [0; 32];
        Uuid::from_u64_pair(0, self.span_id).as_simple().encode_lower(&mut parent);
        value[36..52].copy_from_slice(&parent[16..]);
        value[54] = b'0' + u8::from(self.is_sampled);
        value
    }
}

/// A span's id, of the random part of a fresh id.
fn span_id(id: Uuid) -> u64 {
    let (_, low) = id.as_u64_pair();
    low | 1
}

/// Whether `value` is a traceparent.
pub fn is_valid(value: &[u8]) -> bool {
    Parent::parse(value).is_some()
}

/// A new, sampled traceparent whose trace id is the request id.
pub fn from_request_id(id: Uuid) -> [u8; 55] {
    TraceContext::begun(id, true).header()
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
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
            b"0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"",
        ] {
            assert!(!is_valid(refused), "{}", refused.escape_ascii());
        }
    }

    #[test]
    fn a_trace_is_continued_with_a_new_span() {
        let id = Uuid::from_u128(0x0190_1234_5678_7abc_8def_0123_4567_89aa);
        for (given, sampled) in [
            (&b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"[..], '1'),
            (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", '0'),
            (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fe", '0'),
            // A version of the future, with more fields.
            (b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more", '1'),
        ] {
            let context = TraceContext::continued(Parent::parse(given).unwrap(), id);
            assert_eq!(context.parent, Some(0x00f0_67aa_0ba9_02b7));
            let expected = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-8def0123456789ab-0{sampled}");
            assert_eq!(context.header(), expected.as_bytes());
        }
    }
}
