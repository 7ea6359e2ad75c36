//! Parsing and serialising HTTP/1.0 and HTTP/1.1 messages, without input or output (RFC 9110, RFC 9112).
//!
//! A head is parsed into ranges of the buffer that contains it, a body is decoded incrementally, and heads are
//! serialised from their parsed form. Ambiguous messages are refused, never repaired. This module must not depend on
//! sockets, servers, clients or the configuration.

pub mod body;
pub mod field;
mod headers;
pub(crate) mod host;
mod line;
pub mod recoding;
pub mod request;
pub mod response;
mod target;
pub mod write;

pub use self::body::Decoder;
pub use self::field::Field;
pub use self::headers::{Header, Headers};
pub(crate) use self::host::is_valid as is_valid_host;
pub use self::host::without_port;
pub use self::request::RequestHead;
pub use self::response::ResponseHead;
pub use self::target::Form;

/// Why a message is refused: the status of the response, and a message for the client and the log. The connection is
/// closed after the response, because the start of the next message is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// 400, 411, 413, 414, 417, 431, 501 or 505 for a request; 502 for a response.
    pub status: u16,
    /// The violated rule, in lower case.
    pub reason: &'static str,
}

impl Refusal {
    pub(crate) const fn new(status: u16, reason: &'static str) -> Self {
        Self { status, reason }
    }

    /// A malformed request.
    pub(crate) const fn bad(reason: &'static str) -> Self {
        Self::new(400, reason)
    }

    /// The refusal of a response for the same reason.
    pub(crate) const fn in_response(self) -> Self {
        Self::new(502, self.reason)
    }
}

/// The limits of a message's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head, from its first line to its empty line; beyond: 431.
    pub head_bytes: usize,
    /// Header lines; beyond: 431.
    pub headers: usize,
    /// Bytes of the request target; beyond: 414.
    pub target_bytes: usize,
    /// Bytes of body a request may announce; beyond: 413.
    pub body_bytes: u64,
}

/// A range of the buffer a head was parsed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The range of `part` in `buffer`; `part` must be a slice of it.
    pub(crate) fn of(buffer: &[u8], part: &[u8]) -> Self {
        let start = part.as_ptr().addr() - buffer.as_ptr().addr();
        debug_assert!(start + part.len() <= buffer.len(), "a span lies in its buffer");
        Self { start: start as u32, end: (start + part.len()) as u32 }
    }

    /// The bytes in the buffer the head was parsed from.
    pub fn in_buffer(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start as usize..self.end as usize]
    }

    /// Whether its length is 0.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// Its length in bytes.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }
}

/// The version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no chunked coding, no interim responses, closes by default.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// The framing of a body: how its end is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// The body has this many bytes.
    Length(u64),
    /// The chunked transfer coding.
    Chunked,
    /// The body ends when the server closes the connection; responses only.
    UntilClose,
}

/// A request method (RFC 9110 section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Trace,
    Connect,
    /// Any other token; its bytes are in [`RequestHead::method_name`].
    Other,
}

impl Method {
    /// The method of this name; names are case-sensitive (RFC 9110 section 9.1).
    pub fn of(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"TRACE" => Self::Trace,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }

    /// Whether the method is safe (RFC 9110 section 9.2.1). TRACE is left out.
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options)
    }

    /// Whether the method is idempotent (RFC 9110 section 9.2.2).
    pub fn is_idempotent(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace)
    }
}

/// Whether the bytes after the first `seen` ones may have completed a line, so that the head has to be parsed again.
/// This avoids one parse per byte for a client that sends single bytes.
pub fn worth_parsing(buffer: &[u8], seen: usize) -> bool {
    seen == 0 || memchr::memchr(b'\n', &buffer[seen.min(buffer.len())..]).is_some()
}

/// Whether `byte` is allowed in a token (RFC 9110 section 5.6.2).
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// Whether `text` is a token: at least one byte, each of them [`is_token_byte`].
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}
