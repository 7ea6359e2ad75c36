//! Parses the head of a response (RFC 9112 sections 4 to 6), as strictly as that of a request.

use std::mem::MaybeUninit;

use super::headers::{self, Coding, Headers};
use super::{Field, Framing, HeadLimits, Method, Refusal, Span, Version};

/// The most header lines that are parsed without an allocation.
const HEADERS_ON_STACK: usize = 128;

/// The properties of the request on which the parsing of its response depends.
#[derive(Clone, Copy, Debug)]
pub struct RequestInfo {
    /// The request's method.
    pub method: Method,
    /// Whether the request has an `Upgrade` field.
    pub upgrade: bool,
}

/// A response head, as ranges of the buffer it was parsed from.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    /// The length of the head in bytes; the body starts there.
    pub length: usize,
    /// The status code, 100 to 599.
    pub status: u16,
    /// The reason phrase; empty if it is absent or not ASCII.
    pub reason: Span,
    /// The version.
    pub version: Version,
    /// The framing of the body.
    pub framing: Framing,
    /// The value of `Content-Length`, also without a body (HEAD, 304).
    pub content_length: Option<u64>,
    /// Whether the server keeps the connection.
    pub keep_alive: bool,
    /// The new protocol, if the status is 101.
    pub upgrade: Option<Span>,
    /// Whether there is a `Date` field; otherwise the balancer adds one (RFC 9110 section 6.6.1).
    pub has_date: bool,
    /// The header lines, in their order.
    pub headers: Headers,
}

impl ResponseHead {
    /// Whether another response to the same request follows: any 1xx but 101.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// The value of the first line with this field.
    pub fn value<'a>(&self, buffer: &'a [u8], field: Field) -> Option<&'a [u8]> {
        Some(self.headers.iter().find(|header| header.field == field)?.value.in_buffer(buffer))
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

/// Parses the head at the start of `buffer`: `None` when more bytes are needed.
///
/// # Errors
/// The head is malformed, ambiguous or over a limit; the status is always 502.
pub fn parse(
    buffer: &[u8],
    limits: &HeadLimits,
    request_info: RequestInfo,
) -> Result<Option<ResponseHead>, Refusal> {
    parse_lines(buffer, limits, request_info).map_err(Refusal::in_response)
}

/// Whether these bytes start like a response, well-formed or not.
pub fn is_response(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.")
}

fn parse_lines(
    buffer: &[u8],
    limits: &HeadLimits,
    request_info: RequestInfo,
) -> Result<Option<ResponseHead>, Refusal> {
    let buffer = &buffer[..buffer.len().min(limits.head_bytes)];
    if let [b'\r' | b'\n', ..] = buffer {
        return Err(Refusal::bad("an empty line instead of a status line"));
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
        httparse::Status::Complete(length) => read(buffer, length, &parsed, request_info).map(Some),
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
    request_info: RequestInfo,
) -> Result<ResponseHead, Refusal> {
    let (Some(status), Some(reason), Some(minor)) = (parsed.code, parsed.reason, parsed.version) else {
        return Err(Refusal::bad("no status line"));
    };
    if !(100..=599).contains(&status) {
        return Err(Refusal::bad("a status outside 100 to 599"));
    }
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let section = headers::read(buffer, length, parsed.headers)?;
    let framing = framing(&section, status, version, request_info.method)?;
    let upgrade = match status {
        101 if request_info.upgrade && section.upgrade_option && section.upgrade.is_some() => section.upgrade,
        101 => {
            return Err(Refusal::bad("an unsolicited status 101, or one without an Upgrade field"));
        }
        100..200 if version == Version::Http10 => {
            return Err(Refusal::bad("an interim response in HTTP/1.0"));
        }
        _ => None,
    };
    Ok(ResponseHead {
        length,
        status,
        // For a phrase that is not ASCII, httparse returns an empty one outside of the buffer.
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
    method: Method,
) -> Result<Framing, Refusal> {
    let chunked = section.coding == Coding::Chunked;
    if chunked && version == Version::Http10 {
        return Err(Refusal::bad("Transfer-Encoding in HTTP/1.0"));
    }
    match status {
        100..200 | 204 if chunked || section.length.is_some_and(|length| length > 0) => {
            Err(Refusal::bad("Content-Length or Transfer-Encoding in a response without a body"))
        }
        100..200 | 204 | 304 => Ok(Framing::None),
        _ if method == Method::Head => Ok(Framing::None),
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
            "an invalid byte in a header name, a folded line, or white space before a colon"
        }
        httparse::Error::HeaderValue => "an invalid byte in a header value",
        httparse::Error::NewLine => "a bare CR",
        httparse::Error::TooManyHeaders => "more header lines than allowed",
        httparse::Error::Version => "the status line does not start with HTTP/1.0 or HTTP/1.1",
        httparse::Error::Token | httparse::Error::Status => "the status line is malformed",
    })
}
