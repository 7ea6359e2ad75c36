//! Request targets: their forms, and the bytes allowed in them (RFC 9112 section 3.2, RFC 3986).
//!
//! Bytes that RFC 3986 requires to be encoded but that clients commonly send unencoded (`{ } | ^ " [ ]`, and in a query
//! also `< > \` and the back tick) are forwarded; UTF-8 in a query is percent-encoded. Bytes that could end the target
//! or change its meaning are refused.

use super::{Method, Refusal, Span, host};

/// The form of a request target (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `/path?query`.
    Origin,
    /// `http://host/path?query`, which clients send to a proxy.
    Absolute,
    /// `*`, for OPTIONS.
    Asterisk,
}

/// A parsed request target.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) form: Form,
    /// The authority of an absolute-form target, and the default port of its scheme.
    pub(super) authority: Option<(&'a [u8], &'static [u8])>,
    /// Path and query; in absolute form it may be empty or start with `?`.
    pub(super) path: &'a [u8],
}

pub(super) fn read(target: &[u8], method: Method) -> Result<Target<'_>, Refusal> {
    if method == Method::Connect {
        return Err(Refusal::new(501, "the CONNECT method is not supported"));
    }
    let found = match target {
        b"*" if method == Method::Options => Target { form: Form::Asterisk, authority: None, path: target },
        [b'/', ..] => Target { form: Form::Origin, authority: None, path: target },
        _ => absolute(target)?,
    };
    if found.form != Form::Asterisk {
        check_bytes(found.path)?;
    }
    Ok(found)
}

fn absolute(target: &[u8]) -> Result<Target<'_>, Refusal> {
    let scheme = |name: &[u8]| target.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    let (rest, port) = if scheme(b"http://") {
        (&target[b"http://".len()..], &b"80"[..])
    } else if scheme(b"https://") {
        (&target[b"https://".len()..], &b"443"[..])
    } else {
        return Err(Refusal::bad("the form of the request target is invalid for its method"));
    };
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !host::is_valid(authority) {
        return Err(Refusal::bad("the authority of the request target is invalid"));
    }
    Ok(Target { form: Form::Absolute, authority: Some((authority, port)), path })
}

fn check_bytes(target: &[u8]) -> Result<(), Refusal> {
    let query = memchr::memchr(b'?', target).unwrap_or(target.len());
    let (path, query) = target.split_at(query);
    let mut rest = path;
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            b'%' => match rest {
                [high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    rest = after;
                }
                _ => return Err(Refusal::bad("the path contains an invalid percent-encoding")),
            },
            b'#' | b'<' | b'>' | b'\\' | b'`' | ..=b' ' | 0x7f.. => {
                return Err(Refusal::bad("the path contains a byte that must be percent-encoded"));
            }
            _ => {}
        }
    }
    let is_refused = |byte: &u8| matches!(byte, b'#' | ..=b' ' | 0x7f);
    if query.iter().any(is_refused) || !query.is_ascii() && std::str::from_utf8(query).is_err() {
        return Err(Refusal::bad("the query contains a byte that must be percent-encoded"));
    }
    Ok(())
}

/// Appends the target for a server: the origin form, or `*`.
pub(super) fn push_origin(out: &mut Vec<u8>, form: Form, path: &[u8], method: Method) {
    match (form, path) {
        // RFC 9112 section 3.2.4: OPTIONS without path and query becomes the asterisk form.
        (Form::Absolute, b"") if method == Method::Options => out.push(b'*'),
        // In absolute form, or after the prefix of a route was removed.
        (_, b"" | [b'?', ..]) => {
            out.push(b'/');
            push_encoded(out, path);
        }
        _ => push_encoded(out, path),
    }
}

/// Appends `path` with its non-ASCII bytes percent-encoded.
fn push_encoded(out: &mut Vec<u8>, path: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if path.is_ascii() {
        return out.extend_from_slice(path);
    }
    for byte in path {
        if byte.is_ascii() {
            out.push(*byte);
        } else {
            out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

/// Whether the target in the incomplete request line `line` is already longer than `limit`.
pub(super) fn is_too_long(line: &[u8], limit: usize) -> bool {
    if line.len() <= limit {
        return false;
    }
    let method = line.iter().position(|byte| !super::is_token_byte(*byte)).unwrap_or(line.len());
    match line.get(method) {
        Some(b' ') if method > 0 => {
            let target = &line[method + 1..];
            target.iter().take(limit + 1).take_while(|byte| matches!(byte, b'!'..=b'~' | 0x80..)).count()
                > limit
        }
        _ => false,
    }
}

impl Target<'_> {
    pub(super) fn path_span(&self, buffer: &[u8]) -> Span {
        Span::of(buffer, self.path)
    }
}
