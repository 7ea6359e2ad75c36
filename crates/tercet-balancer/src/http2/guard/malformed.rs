//! Validates requests: those that are malformed (RFC 9113 section 8.1.1), or that `h2` would reject silently, get a refusal.

use http::uri::Authority;

use super::compression::{Field, Fields};
use crate::http1::{Refusal, is_token};

/// Connection-specific header fields, which HTTP/2 forbids (RFC 9113 section 8.2.2).
const CONNECTION_SPECIFIC: [&[u8]; 5] =
    [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];

/// Why a request with these fields is refused, if it is; `has_ended`: no body follows.
pub(super) fn refusal(fields: &Fields, has_ended: bool) -> Option<Refusal> {
    if fields.are_too_many() {
        return Some(Refusal { status: 431, reason: "the head is longer than allowed" });
    }
    judge(fields, has_ended).err()
}

/// A field's value for the log, or `-`.
pub(super) fn text<'a>(fields: &'a Fields, name: &[u8]) -> &'a [u8] {
    fields.iter().find(|field| field.name == name).map_or(b"-", |field| field.value)
}

#[derive(Default)]
struct PseudoHeaders<'a> {
    method: Option<&'a [u8]>,
    scheme: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
}

fn judge(fields: &Fields, has_ended: bool) -> Result<(), Refusal> {
    let mut pseudo = PseudoHeaders::default();
    let mut after_pseudo = false;
    let mut length = None;
    for Field { name, value, .. } in fields.iter() {
        if value.iter().any(|byte| is_control(*byte)) {
            return Err(Refusal::bad("a control character in a header value"));
        }
        if let Some(name) = name.strip_prefix(b":") {
            let slot = match name {
                b"method" => &mut pseudo.method,
                b"scheme" => &mut pseudo.scheme,
                b"path" => &mut pseudo.path,
                b"authority" => &mut pseudo.authority,
                _ => return Err(Refusal::bad("an unknown pseudo-header")),
            };
            if after_pseudo {
                return Err(Refusal::bad("a pseudo-header after other headers"));
            }
            if slot.replace(value).is_some() {
                return Err(Refusal::bad("a duplicate pseudo-header"));
            }
            continue;
        }
        after_pseudo = true;
        check(name, value, &mut length)?;
    }
    if has_ended && length.is_some_and(|length| length > 0) {
        return Err(Refusal::bad("a Content-Length other than 0 without a body"));
    }
    pseudo.judge()
}

/// Checks a regular field.
fn check(name: &[u8], value: &[u8], length: &mut Option<u64>) -> Result<(), Refusal> {
    if !is_token(name) || name.iter().any(u8::is_ascii_uppercase) {
        return Err(Refusal::bad("an invalid header name for HTTP/2"));
    }
    let is_white = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_white(value.first()) || is_white(value.last()) {
        return Err(Refusal::bad("white space around a header value"));
    }
    if CONNECTION_SPECIFIC.contains(&name) {
        return Err(Refusal::bad("a connection-specific header in HTTP/2"));
    }
    if name == b"te" && value != b"trailers" {
        return Err(Refusal::bad("a TE other than trailers in HTTP/2"));
    }
    if name == b"content-length" {
        let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = std::str::from_utf8(value).ok().filter(|_| is_number).and_then(|text| text.parse().ok());
        let number = number.ok_or(Refusal::bad("an invalid Content-Length"))?;
        if length.replace(number).is_some() {
            return Err(Refusal::bad("several Content-Lengths"));
        }
    }
    Ok(())
}

impl PseudoHeaders<'_> {
    fn judge(&self) -> Result<(), Refusal> {
        let method = self.method.ok_or(Refusal::bad("no :method"))?;
        if !is_token(method) {
            return Err(Refusal::bad("an invalid :method"));
        }
        if method == b"CONNECT" {
            return Err(Refusal { status: 501, reason: "CONNECT is not supported" });
        }
        let scheme = self.scheme.ok_or(Refusal::bad("no :scheme"))?;
        if http::uri::Scheme::try_from(scheme).is_err() {
            return Err(Refusal::bad("an invalid :scheme"));
        }
        let path = self.path.ok_or(Refusal::bad("no :path"))?;
        if path != b"*" && !path.starts_with(b"/") {
            return Err(Refusal::bad("a :path that does not begin with /"));
        }
        if path.contains(&b' ') {
            return Err(Refusal::bad("a space in :path"));
        }
        if self.authority.is_some_and(|authority| Authority::try_from(authority).is_err()) {
            return Err(Refusal::bad("an invalid :authority"));
        }
        Ok(())
    }
}

/// Whether a field value may not contain this byte (RFC 9110 section 5.5).
fn is_control(byte: u8) -> bool {
    byte < b' ' && byte != b'\t' || byte == 0x7f
}
