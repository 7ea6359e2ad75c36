//! The paths of request targets: which are refused because they have more than one reading, and which have a prefix.
//!
//! Servers, programs and file systems differ in how they read a dot segment, an empty segment or an encoded slash. A path
//! with one of these is refused and not repaired, so that the path that a route, an access rule or a folder judges is the
//! one that the server sees.

use std::borrow::Cow;

use crate::http1::Refusal;

/// The path of a target in origin form, or of an absolute one without its authority; the query is left out.
pub fn of_target(target: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'?', target).unwrap_or(target.len());
    if end == 0 { b"/" } else { &target[..end] }
}

/// Checks that a path has one reading only.
///
/// # Errors
/// It has a segment `.` or `..` (also with parameters, `..;a`), an empty segment, or an encoded `/`, `\` or control character.
pub fn check(path: &[u8]) -> Result<(), Refusal> {
    let Some(mut rest) = path.strip_prefix(b"/") else {
        return Err(Refusal::bad("the path does not start with /"));
    };
    loop {
        let end = memchr::memchr(b'/', rest);
        let segment = &rest[..end.unwrap_or(rest.len())];
        check_segment(segment)?;
        let Some(end) = end else { return Ok(()) };
        if segment.is_empty() {
            return Err(Refusal::bad("the path contains an empty segment"));
        }
        rest = &rest[end + 1..];
    }
}

fn check_segment(segment: &[u8]) -> Result<(), Refusal> {
    if memchr::memchr(b'%', segment).is_some() {
        for byte in Decoded(segment) {
            match byte {
                b'/' | b'\\' => return Err(Refusal::bad("the path contains an encoded / or \\")),
                ..=0x1f | 0x7f => return Err(Refusal::bad("the path contains an encoded control character")),
                _ => {}
            }
        }
    }
    let mut bytes = Decoded(segment);
    if bytes.next() == Some(b'.') {
        let second = bytes.next();
        let third = if second == Some(b'.') { bytes.next() } else { second };
        if matches!(third, None | Some(b';')) {
            return Err(Refusal::bad("the path contains a segment . or .."));
        }
    }
    Ok(())
}

/// A path without the parameters of its segments, `;a=b`, which some servers leave out (RFC 3986 section 3.3); `None` if it has
/// none.
pub fn without_parameters(path: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr2(b';', b'%', path)?;
    let mut plain = Vec::with_capacity(path.len());
    for segment in path.split(|byte| *byte == b'/') {
        let mut rest = Decoded(segment);
        let mut end = segment.len();
        while let (before, Some(byte)) = (rest.0.len(), rest.next()) {
            if byte == b';' {
                end = segment.len() - before;
                break;
            }
        }
        plain.extend_from_slice(&segment[..end]);
        plain.push(b'/');
    }
    plain.pop();
    (plain.len() < path.len()).then_some(plain)
}

/// The length of the front of `path` that is `prefix` in whole segments, as it was received; `None` if the path starts
/// otherwise. The length for `/` is 0.
pub fn prefix(path: &[u8], prefix: &[u8]) -> Option<usize> {
    if prefix == b"/" {
        return Some(0);
    }
    let mut rest = Decoded(path);
    if prefix.iter().any(|byte| rest.next() != Some(*byte)) {
        return None;
    }
    matches!(rest.0, [] | [b'/', ..]).then(|| path.len() - rest.0.len())
}

/// The target without the first `length` bytes of its path.
pub fn stripped(target: &[u8], length: usize) -> Cow<'_, [u8]> {
    match &target[length..] {
        rest if length == 0 => rest.into(),
        rest @ [b'/', ..] => rest.into(),
        rest => [b"/", rest].concat().into(),
    }
}

/// The bytes of a percent-encoded text; a `%` without two digits stands for itself.
#[derive(Clone, Debug)]
pub struct Decoded<'a>(pub &'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        if let [b'%', high, low, rest @ ..] = self.0
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            self.0 = rest;
            return Some(high << 4 | low);
        }
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_end_with_their_segment() {
        for (path, plain) in [
            ("/", None),
            ("/a/b%20c/", None),
            ("/a;", Some("/a")),
            ("/a;b=c;d/e", Some("/a/e")),
            ("/a%3bb/e%20f%3B/", Some("/a/e%20f/")),
            ("/;/a", Some("//a")),
            ("/%253b", None),
        ] {
            let found = without_parameters(path.as_bytes());
            assert_eq!(found.as_deref(), plain.map(str::as_bytes), "{path}");
        }
    }

    #[test]
    fn a_path_with_more_than_one_reading_is_refused() {
        for accepted in [
            "/",
            "/a",
            "/a/",
            "/a/b",
            "/...",
            "/.a",
            "/..a",
            "/a..",
            "/a;b=c",
            "/.well-known/acme-challenge/x",
            "/%7Euser",
            "/a%20b",
            "/a%2Eb",
            "/%252e%252e",
            "/a%252Fb",
            "/a:b@c",
            "/*",
        ] {
            assert_eq!(check(accepted.as_bytes()), Ok(()), "{accepted}");
        }
        for refused in [
            "a",
            "//",
            "//a",
            "/a//",
            "/a//b",
            "/.",
            "/..",
            "/./a",
            "/../a",
            "/a/.",
            "/a/..",
            "/a/../b",
            "/%2e",
            "/%2E%2e/a",
            "/.%2e/a",
            "/a/%2e%2E",
            "/..;/a",
            "/.;a/b",
            "/..%3Ba/b",
            "/%2e%2e;a",
            "/a%2Fb",
            "/a%2fb",
            "/a%5Cb",
            "/a%5cb",
            "/a%00",
            "/a%0Ab",
            "/%7F",
            "/a/%2f",
        ] {
            assert!(check(refused.as_bytes()).is_err(), "{refused}");
        }
    }
}
