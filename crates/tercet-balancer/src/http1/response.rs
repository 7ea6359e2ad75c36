//! The head of a response (RFC 9112 sections 4 to 6), as strictly as that of a request.

use std::mem::MaybeUninit;

use super::headers::{self, Coding, Headers};
use super::{Field, Framing, HeadLimits, Method, Refusal, Span, Version};

/// Header lines that are parsed without an allocation.
const HEADERS_ON_STACK: usize = 128;

/// What the response answers; framing depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The request's method.
    pub method: Method,
    /// Whether the request asked to switch protocols.
    pub upgrade: bool,
}

/// A response head, as ranges of the buffer it was parsed from.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// Bytes of the buffer that the head takes; the body starts there.
    pub length: usize,
    /// The status code, 100 to 599.
    pub status: u16,
    /// The reason phrase; empty when there is none, or one with bytes outside ASCII.
    pub reason: Span,
    /// The version.
    pub version: Version,
    /// How the body ends, given what was asked.
    pub framing: Framing,
    /// The `Content-Length` said, also where no body follows (HEAD, 304).
    pub content_length: Option<u64>,
    /// Whether the server keeps the connection.
    pub keep_alive: bool,
    /// The protocol switched to, of a 101.
    pub upgrade: Option<Span>,
    /// Whether there is a `Date`; without one the balancer adds it (RFC 9110 section 6.6.1).
    pub has_date: bool,
    /// The header lines, in their order.
    pub headers: Headers,
}

impl ResponseHead {
    /// Whether another response to the same request follows: any 1xx but 101.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// Whether its body is a stream of server-sent events (HTML, section 9.2.5).
    pub fn is_event_stream(&self, buffer: &[u8]) -> bool {
        const TYPE: &[u8] = b"text/event-stream";
        let types = self.headers.iter().filter(|header| {
            header.field == Field::Other
                && header.name.in_buffer(buffer).eq_ignore_ascii_case(b"content-type")
        });
        types
            .map(|header| header.value.in_buffer(buffer))
            .any(|value| value.get(..TYPE.len()).is_some_and(|start| start.eq_ignore_ascii_case(TYPE)))
    }
}

/// Parses the head at the start of `buffer`: `None` when more bytes are needed. Every refusal is a 502.
pub fn parse(buffer: &[u8], limits: &HeadLimits, asked: Asked) -> Result<Option<ResponseHead>, Refusal> {
    parse_lines(buffer, limits, asked).map_err(Refusal::in_response)
}

/// Whether these bytes are meant as a response, be it well-formed or not.
pub fn is_answer(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.")
}

fn parse_lines(buffer: &[u8], limits: &HeadLimits, asked: Asked) -> Result<Option<ResponseHead>, Refusal> {
    let buffer = &buffer[..buffer.len().min(limits.head_bytes)];
    if let [b'\r' | b'\n', ..] = buffer {
        return Err(Refusal::bad("an empty line where a status line should be"));
    }
    let mut on_stack = [const { MaybeUninit::uninit() }; HEADERS_ON_STACK];
    let mut on_heap = Vec::new();
    let lines = if limits.headers <= HEADERS_ON_STACK {
        &mut on_stack[..limits.headers]
    } else {
        on_heap.resize(limits.headers, MaybeUninit::uninit());
        &mut on_heap[..]
    };
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, buffer, lines)
        .map_err(refusal)?;
    match status {
        httparse::Status::Complete(length) => read(buffer, length, &parsed, asked).map(Some),
        httparse::Status::Partial if buffer.len() == limits.head_bytes => {
            Err(Refusal::bad("the head is longer than allowed"))
        }
        httparse::Status::Partial => Ok(None),
    }
}

fn read(
    buffer: &[u8],
    length: usize,
    parsed: &httparse::Response<'_, '_>,
    asked: Asked,
) -> Result<ResponseHead, Refusal> {
    let (Some(status), Some(reason), Some(minor)) = (parsed.code, parsed.reason, parsed.version) else {
        return Err(Refusal::bad("no status line"));
    };
    if !(100..=599).contains(&status) {
        return Err(Refusal::bad("a status outside 100 to 599"));
    }
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let section = headers::read(buffer, length, parsed.headers)?;
    let framing = framing(&section, status, version, asked.method)?;
    let upgrade = match status {
        101 if asked.upgrade && section.upgrade_option && section.upgrade.is_some() => section.upgrade,
        101 => {
            return Err(Refusal::bad(
                "a 101 that was not asked for, or that does not say to what it switches",
            ));
        }
        100..200 if version == Version::Http10 => {
            return Err(Refusal::bad("an interim response in HTTP/1.0"));
        }
        _ => None,
    };
    Ok(ResponseHead {
        length,
        status,
        // httparse answers a phrase outside ASCII with an empty one that lies elsewhere.
        reason: if reason.is_empty() { Span::default() } else { Span::of(buffer, reason.as_bytes()) },
        version,
        framing,
        content_length: section.length,
        keep_alive: section.persists(version) && framing != Framing::UntilClose,
        upgrade,
        has_date: section.headers.iter().any(|header| header.field == Field::Date),
        headers: section.headers,
    })
}

/// RFC 9112 section 6.3, for responses.
fn framing(
    section: &headers::Section,
    status: u16,
    version: Version,
    asked: Method,
) -> Result<Framing, Refusal> {
    let chunked = section.coding == Coding::Chunked;
    if chunked && version == Version::Http10 {
        return Err(Refusal::bad("Transfer-Encoding in HTTP/1.0"));
    }
    match status {
        100..200 | 204 if chunked || section.length.is_some_and(|length| length > 0) => {
            Err(Refusal::bad("a body announced by a response that has none"))
        }
        100..200 | 204 | 304 => Ok(Framing::None),
        _ if asked == Method::Head => Ok(Framing::None),
        _ if chunked => Ok(Framing::Chunked),
        _ => Ok(match section.length {
            Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        }),
    }
}

fn refusal(error: httparse::Error) -> Refusal {
    Refusal::bad(match error {
        httparse::Error::HeaderName => {
            "a header name holds a forbidden byte, or a line is folded, or a space precedes the colon"
        }
        httparse::Error::HeaderValue => "a header value holds a forbidden byte",
        httparse::Error::NewLine => "a carriage return without its line feed",
        httparse::Error::TooManyHeaders => "more header lines than allowed",
        httparse::Error::Version => "the status line does not start with HTTP/1.0 or HTTP/1.1",
        httparse::Error::Token | httparse::Error::Status => "the status line is malformed",
    })
}
