//! The chunked transfer coding and its trailers (RFC 9112 section 7.1).

use super::{Piece, TOO_LONG};
use crate::http1::{Field, Refusal, headers, is_token_byte};

/// The longest chunk-size line, including extensions and line end.
const LINE_BYTES: usize = 1024;
/// The most bytes of chunk extensions in one body.
const EXTENSION_BYTES: usize = 8 * 1024;
/// The longest trailer section.
pub(super) const TRAILER_BYTES: usize = 8 * 1024;
/// The most trailer lines.
const TRAILERS: usize = 32;

/// The decoder's state within a chunked body.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    next: Next,
    extension_bytes: usize,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    /// A chunk-size line.
    Size,
    /// The remaining bytes of a chunk.
    Content(u64),
    /// The line end after a chunk.
    End,
    /// The trailer section.
    Trailers,
}

impl Default for State {
    fn default() -> Self {
        Self { next: Next::Size, extension_bytes: 0 }
    }
}

impl State {
    pub(super) fn expects(self) -> u64 {
        match self.next {
            Next::Content(left) => left,
            Next::Size | Next::End | Next::Trailers => 0,
        }
    }

    /// Decodes the next piece; `allowed` is the limit for the remaining content.
    pub(super) fn decode(&mut self, bytes: &[u8], allowed: u64) -> Result<Piece, Refusal> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match self.next {
                Next::Size => {
                    let Some(line) = line(rest, LINE_BYTES)? else { return Ok(framing(at)) };
                    self.next = match self.read_size(line)? {
                        0 => Next::Trailers,
                        size if size > allowed => return Err(TOO_LONG),
                        size => Next::Content(size),
                    };
                    at += line.len() + 2;
                }
                Next::Content(_) if rest.is_empty() => return Ok(framing(at)),
                Next::Content(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let left = left - taken as u64;
                    self.next = if left == 0 { Next::End } else { Next::Content(left) };
                    let end = at + taken;
                    return Ok(Piece { consumed: end, content: at..end, trailers: 0..0, done: false });
                }
                Next::End => match rest {
                    [b'\r', b'\n', ..] => {
                        at += 2;
                        self.next = Next::Size;
                    }
                    [] | [b'\r'] => return Ok(framing(at)),
                    _ => return Err(Refusal::bad("a chunk is longer than its chunk size")),
                },
                Next::Trailers => {
                    let Some(length) = trailers(rest)? else { return Ok(framing(at)) };
                    let end = at + length;
                    return Ok(Piece { consumed: end, content: end..end, trailers: at..end - 2, done: true });
                }
            }
        }
    }

    /// `chunk-size [ chunk-ext ]`, without its line end.
    fn read_size(&mut self, line: &[u8]) -> Result<u64, Refusal> {
        let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
        if !(1..=16).contains(&digits) {
            return Err(Refusal::bad("a chunk size is not a hexadecimal number of at most 16 digits"));
        }
        let extensions = &line[digits..];
        if !extensions.is_empty() {
            self.extension_bytes += extensions.len();
            if self.extension_bytes > EXTENSION_BYTES {
                return Err(Refusal::bad("too many chunk extensions"));
            }
            if !are_extensions(extensions) {
                return Err(Refusal::bad("a chunk extension is malformed"));
            }
        }
        Ok(line[..digits].iter().fold(0, |size, digit| {
            size << 4 | u64::from(char::from(*digit).to_digit(16).unwrap_or_default())
        }))
    }
}

/// A piece without content.
fn framing(consumed: usize) -> Piece {
    Piece { consumed, content: consumed..consumed, trailers: 0..0, done: false }
}

/// The line at the front of `bytes` without its line end, if it is complete.
fn line(bytes: &[u8], limit: usize) -> Result<Option<&[u8]>, Refusal> {
    let bytes = &bytes[..bytes.len().min(limit)];
    match memchr::memchr2(b'\r', b'\n', bytes) {
        Some(end) if bytes[end..].starts_with(b"\r\n") => Ok(Some(&bytes[..end])),
        Some(end) if end + 1 == bytes.len() && bytes[end] == b'\r' && bytes.len() < limit => Ok(None),
        None if bytes.len() < limit => Ok(None),
        Some(_) => Err(Refusal::bad("a chunk line does not end with CR LF")),
        None => Err(Refusal::bad("a chunk line is longer than allowed")),
    }
}

/// `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )` (RFC 9112 section 7.1.1).
fn are_extensions(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(after) = skip_white_space(rest).strip_prefix(b";") else { return false };
        let Some(after) = skip_token(skip_white_space(after)) else { return false };
        rest = after;
        if let Some(value) = skip_white_space(after).strip_prefix(b"=") {
            let value = skip_white_space(value);
            let Some(after) = skip_quoted(value).or_else(|| skip_token(value)) else { return false };
            rest = after;
        }
    }
    true
}

fn skip_white_space(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(text.len());
    &text[end..]
}

fn skip_token(text: &[u8]) -> Option<&[u8]> {
    let end = text.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(text.len());
    (end > 0).then(|| &text[end..])
}

/// RFC 9110 section 5.6.4.
fn skip_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'\t' | b' '..=b'~' | 0x80.., after @ ..] => after,
            [b'\\', ..] => return None,
            [b'\t' | b' '..=b'~' | 0x80.., after @ ..] => after,
            _ => return None,
        };
    }
}

/// The length of the trailer section at the front of `bytes` with its empty line, if it is complete.
fn trailers(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    if bytes.starts_with(b"\r\n") {
        return Ok(Some(2));
    }
    let bytes = &bytes[..bytes.len().min(TRAILER_BYTES)];
    let mut lines = [httparse::EMPTY_HEADER; TRAILERS];
    match httparse::parse_headers(bytes, &mut lines) {
        Ok(httparse::Status::Complete((length, lines))) => {
            headers::check_line_ends(bytes, length, lines)?;
            if lines.iter().any(|line| Field::of(line.name.as_bytes()).is_refused_in_trailers()) {
                return Err(Refusal::bad("a header field that is not allowed in trailers"));
            }
            Ok(Some(length))
        }
        Ok(httparse::Status::Partial) if bytes.len() < TRAILER_BYTES => Ok(None),
        Ok(httparse::Status::Partial) => Err(Refusal::bad("the trailers are longer than allowed")),
        Err(_) => Err(Refusal::bad("the trailers are malformed")),
    }
}
