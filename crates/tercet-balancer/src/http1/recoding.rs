//! The header lines of a response whose body is sent in another content coding (RFC 9110 section 8.4).

use super::line::push_line;

/// How a response differs from the one that was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recoding {
    /// The content coding of the body as it is sent; `None`: as it was received.
    pub coding: Option<&'static str>,
    /// Whether `Vary` has to have `Accept-Encoding` (RFC 9110 section 12.5.5).
    pub varies: bool,
    /// Whether a strong `ETag` becomes weak: another coding has other bytes (RFC 9110 section 8.8.1).
    pub is_weak: bool,
}

impl Recoding {
    /// Whether anything differs.
    pub(super) fn changes(self) -> bool {
        self != Self::default()
    }

    /// Appends a line of the response as it is sent, if it is sent. Returns whether it is a `Vary` that is sufficient.
    pub(super) fn push(self, out: &mut Vec<u8>, name: &[u8], value: &[u8], is_varied: bool) -> bool {
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        if self.varies && is(b"vary") {
            if is_varied || has_element(value, b"accept-encoding") || has_element(value, b"*") {
                push_line(out, name, value);
            } else if value.is_empty() {
                push_line(out, name, ACCEPT_ENCODING);
            } else {
                push_line(out, name, &[value, b", ", ACCEPT_ENCODING].concat());
            }
            return true;
        }
        if self.is_weak && is(b"etag") && value.starts_with(b"\"") {
            push_line(out, name, &[b"W/", value].concat());
        } else if self.coding.is_none() || !is(b"accept-ranges") {
            push_line(out, name, value);
        }
        false
    }

    /// Appends the lines that are missing.
    pub(super) fn push_rest(self, out: &mut Vec<u8>, is_varied: bool) {
        if let Some(coding) = self.coding {
            push_line(out, b"Content-Encoding", coding.as_bytes());
        }
        if self.varies && !is_varied {
            push_line(out, b"Vary", ACCEPT_ENCODING);
        }
    }
}

const ACCEPT_ENCODING: &[u8] = b"Accept-Encoding";

/// Whether a list has this element, in any case.
fn has_element(list: &[u8], wanted: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|element| element.trim_ascii().eq_ignore_ascii_case(wanted))
}
