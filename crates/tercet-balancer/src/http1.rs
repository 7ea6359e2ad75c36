//! HTTP/1.0 and HTTP/1.1 on the wire, without any input or output (RFC 9110, RFC 9112).
//!
//! Bytes in, plain values out: a head is parsed into ranges of the buffer it came in, a body is followed byte
//! by byte, and a head is written anew from its parsed form. What is ambiguous is refused, never repaired.
//! It refuses to know sockets, servers, limits' origins and who the client is.

pub mod body;
pub mod field;
mod headers;
mod host;
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

/// Why a message is not taken: the status to answer with, and the reason for whoever reads the log. The
/// connection it came on is closed after the answer, as nobody knows where the next message would start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// 400, 411, 413, 414, 417, 431, 501 or 505 for a request; 502 for a response.
    pub status: u16,
    /// What is wrong with it, lower case, naming the rule.
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

    /// The same fault found in what a server sent.
    pub(crate) const fn in_response(self) -> Self {
        Self::new(502, self.reason)
    }
}

/// How much of a head is taken before it is refused.
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
    /// The range that `part` takes in `buffer`, of which it must be a part.
    pub(crate) fn of(buffer: &[u8], part: &[u8]) -> Self {
        let start = part.as_ptr().addr() - buffer.as_ptr().addr();
        debug_assert!(start + part.len() <= buffer.len(), "a span lies in its buffer");
        Self { start: start as u32, end: (start + part.len()) as u32 }
    }

    /// The bytes in the buffer the head was parsed from.
    pub fn in_buffer(self, buffer: &[u8]) -> &[u8] {
        &buffer[self.start as usize..self.end as usize]
    }

    /// Whether it holds no byte.
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// How many bytes it holds.
    pub fn len(self) -> usize {
        (self.end - self.start) as usize
    }
}

/// The minor version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no chunked coding, no interim responses, closes by default.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How a body ends (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk and its trailers.
    Chunked,
    /// When the server closes the connection; responses only.
    UntilClose,
}

/// A request method, as far as forwarding depends on it (RFC 9110 section 9).
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

    /// Whether the request asks for nothing to be changed (RFC 9110 section 9.2.1).
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options)
    }

    /// Whether sending the request twice means the same as once (RFC 9110 section 9.2.2).
    pub fn is_idempotent(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Put | Self::Delete | Self::Options | Self::Trace)
    }
}

/// Whether a head may have become complete or refusable by the bytes after the first `seen` ones: parsing again
/// is worth it only then, which keeps a client that sends byte by byte from costing a parse for each.
pub fn worth_parsing(buffer: &[u8], seen: usize) -> bool {
    seen == 0 || memchr::memchr(b'\n', &buffer[seen.min(buffer.len())..]).is_some()
}

/// Whether `byte` may stand in a token (RFC 9110 section 5.6.2).
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// Whether `text` is a token: at least one byte, each of them [`is_token_byte`].
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}
