//! Parses the head of a request (RFC 9112 sections 2 to 6).

use std::mem::MaybeUninit;

use super::headers::{self, Coding, Header, Headers};
use super::target::{self, Form};
use super::{Field, Framing, HeadLimits, Method, Refusal, Span, Version, host};

/// The longest method name; all registered ones are shorter.
const MAX_METHOD: usize = 32;
/// The most header lines that are parsed without an allocation.
const HEADERS_ON_STACK: usize = 128;

/// A request head, as ranges of the buffer it was parsed from.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The length of the head in bytes; the body starts there.
    pub length: usize,
    /// The method.
    pub method: Method,
    /// The bytes of the method name.
    pub method_name: Span,
    /// The target, unchanged.
    pub target: Span,
    /// The target's form.
    pub form: Form,
    /// Path and query of the target; in absolute form it may be empty or start with `?`.
    pub path: Span,
    /// The authority of the target, or the value of `Host`; `None` only in HTTP/1.0.
    pub host: Option<Span>,
    /// The version.
    pub version: Version,
    /// The framing of the body; never [`Framing::UntilClose`].
    pub framing: Framing,
    /// Whether the client keeps the connection.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expect_continue: bool,
    /// The value of `Upgrade`, if the request may switch protocols.
    pub upgrade: Option<Span>,
    /// Whether the client accepts trailers (`TE: trailers`).
    pub takes_trailers: bool,
    /// `Max-Forwards` of an OPTIONS request; at 0 the balancer responds itself (RFC 9110 section 7.6.2).
    pub max_forwards: Option<u32>,
    /// The header lines, in their order.
    pub headers: Headers,
}

impl RequestHead {
    /// The value of the first line with this field.
    pub fn value<'a>(&self, buffer: &'a [u8], field: Field) -> Option<&'a [u8]> {
        Some(self.headers.iter().find(|header| header.field == field)?.value.in_buffer(buffer))
    }

    /// The value of the first line with this name, in any case.
    pub fn value_named<'a>(&self, buffer: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
        self.values_named(buffer, name).next()
    }

    /// The values of all lines with this name, in any case.
    pub fn values_named<'a>(&self, buffer: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        let named = move |header: &&Header| header.name.in_buffer(buffer).eq_ignore_ascii_case(name);
        self.headers.iter().filter(named).map(|header| header.value.in_buffer(buffer))
    }
}

/// Parses the head at the start of `buffer`: `None` when more bytes are needed. One empty line before it is skipped
/// (RFC 9112 section 2.2).
///
/// # Errors
/// The head is malformed, ambiguous, unsupported or over a limit.
pub fn parse(buffer: &[u8], limits: &HeadLimits) -> Result<Option<RequestHead>, Refusal> {
    let buffer = &buffer[..buffer.len().min(limits.head_bytes)];
    let head = if limits.headers <= HEADERS_ON_STACK {
        let mut lines = [const { MaybeUninit::uninit() }; HEADERS_ON_STACK];
        parse_lines(buffer, limits, &mut lines[..limits.headers])?
    } else {
        parse_lines(buffer, limits, &mut vec![MaybeUninit::uninit(); limits.headers])?
    };
    if head.is_none() && buffer.len() == limits.head_bytes {
        return Err(Refusal::new(431, "the head is longer than allowed"));
    }
    Ok(head)
}

/// The method, target and version at the start of `buffer`, if the request line is well-formed. For logging a request
/// that was refused.
pub fn line(buffer: &[u8]) -> Option<(&[u8], &[u8], Version)> {
    let mut parsed = httparse::Request::new(&mut []);
    // Errors in the rest of the head are ignored.
    let _ = parsed.parse(buffer.strip_prefix(b"\r\n").unwrap_or(buffer));
    let version = if parsed.version? == 0 { Version::Http10 } else { Version::Http11 };
    Some((parsed.method?.as_bytes(), parsed.path?.as_bytes(), version))
}

fn parse_lines<'a>(
    buffer: &'a [u8],
    limits: &HeadLimits,
    lines: &mut [MaybeUninit<httparse::Header<'a>>],
) -> Result<Option<RequestHead>, Refusal> {
    let skipped = if buffer.starts_with(b"\r\n") { 2 } else { 0 };
    let rest = &buffer[skipped..];
    match rest {
        [] | [b'\r'] if skipped == 0 => return Ok(None),
        [] => return Ok(None),
        [b'\r' | b'\n', ..] => return Err(Refusal::bad("an empty line instead of a request line")),
        _ => {}
    }
    if target::is_too_long(rest, limits.target_bytes) {
        return Err(Refusal::new(414, "the request target is longer than allowed"));
    }
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(rest, lines) {
        Ok(httparse::Status::Complete(length)) => skipped + length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::Version) => return refuse_version(rest),
        Err(error) => return Err(refusal(error)),
    };
    read(buffer, length, &parsed, limits).map(Some)
}

fn read(
    buffer: &[u8],
    length: usize,
    parsed: &httparse::Request<'_, '_>,
    limits: &HeadLimits,
) -> Result<RequestHead, Refusal> {
    let (Some(method_name), Some(raw_target), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Refusal::bad("no request line"));
    };
    if method_name.len() > MAX_METHOD {
        return Err(Refusal::new(501, "the method name is too long"));
    }
    let method = Method::of(method_name.as_bytes());
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let raw_target = raw_target.as_bytes();
    let target = target::read(raw_target, method)?;
    let section = headers::read(buffer, length, parsed.headers)?;

    let mut head = RequestHead {
        length,
        method,
        method_name: Span::of(buffer, method_name.as_bytes()),
        target: Span::of(buffer, raw_target),
        form: target.form,
        path: target.path_span(buffer),
        host: None,
        version,
        framing: framing(&section, method, version, limits)?,
        keep_alive: section.persists(version),
        expect_continue: false,
        upgrade: None,
        takes_trailers: false,
        max_forwards: None,
        headers: Headers::new(),
    };
    for header in &section.headers {
        let value = header.value.in_buffer(buffer);
        match header.field {
            Field::Host if head.host.is_some() => return Err(Refusal::bad("more than one Host")),
            Field::Host if !host::is_valid(value) => return Err(Refusal::bad("Host is invalid")),
            Field::Host => head.host = Some(header.value),
            Field::Expect if !value.eq_ignore_ascii_case(b"100-continue") => {
                return Err(Refusal::new(417, "an expectation other than 100-continue"));
            }
            // RFC 9110 section 10.1.1: ignored in HTTP/1.0, and without a body.
            Field::Expect => {
                head.expect_continue = version == Version::Http11 && head.framing != Framing::None;
            }
            Field::Te => head.takes_trailers |= has_element(value, b"trailers"),
            Field::MaxForwards if method == Method::Options => head.max_forwards = Some(max_forwards(value)?),
            _ => {}
        }
    }
    head.headers = section.headers;
    if method == Method::Trace && head.headers.iter().any(|header| header.field.is_credential()) {
        return Err(Refusal::bad("a TRACE request with credentials"));
    }
    if head.host.is_none() && version == Version::Http11 {
        return Err(Refusal::bad("no Host"));
    }
    if let Some((authority, default_port)) = target.authority {
        if head.host.is_some_and(|host| !host::agree(host.in_buffer(buffer), authority, default_port)) {
            return Err(Refusal::bad("Host does not match the request target"));
        }
        head.host = Some(Span::of(buffer, authority));
    }
    // Upgrades to h2c (deprecated) and of requests with a body are ignored, as RFC 9110 section 7.8 permits.
    if section.upgrade_option && version == Version::Http11 && head.framing == Framing::None {
        head.upgrade = section.upgrade.filter(|protocols| !has_element(protocols.in_buffer(buffer), b"h2c"));
    }
    Ok(head)
}

/// RFC 9112 section 6.3, for requests.
fn framing(
    section: &headers::Section,
    method: Method,
    version: Version,
    limits: &HeadLimits,
) -> Result<Framing, Refusal> {
    let framing = match (section.coding, section.length) {
        (Coding::Chunked, _) if version == Version::Http10 => {
            return Err(Refusal::bad("Transfer-Encoding in HTTP/1.0"));
        }
        (Coding::Chunked, _) => Framing::Chunked,
        (Coding::None, Some(length)) if length > limits.body_bytes => {
            return Err(Refusal::new(413, "the body is longer than allowed"));
        }
        // RFC 1945 section 8.3: Content-Length is the only framing of a request body in HTTP/1.0.
        (Coding::None, None)
            if version == Version::Http10 && matches!(method, Method::Post | Method::Put) =>
        {
            return Err(Refusal::new(411, "a body without Content-Length in HTTP/1.0"));
        }
        (Coding::None, None | Some(0)) => Framing::None,
        (Coding::None, Some(length)) => Framing::Length(length),
    };
    if method == Method::Trace && framing != Framing::None {
        return Err(Refusal::bad("a TRACE request with a body"));
    }
    Ok(framing)
}

fn max_forwards(value: &[u8]) -> Result<u32, Refusal> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    if !is_number {
        return Err(Refusal::bad("Max-Forwards is not a number"));
    }
    Ok(str::from_utf8(value).ok().and_then(|digits| digits.parse().ok()).unwrap_or(u32::MAX))
}

/// Whether the comma-separated list contains this element; parameters are ignored.
fn has_element(list: &[u8], wanted: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|element| {
        let name = element.split(|byte| *byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(wanted)
    })
}

/// The refusal of a request line with an unsupported version (505) or without a version (400); `None` if the version is
/// incomplete.
fn refuse_version(line: &[u8]) -> Result<Option<RequestHead>, Refusal> {
    let version = line.splitn(3, |byte| *byte == b' ').nth(2).unwrap_or_default();
    let shape = b"HTTP/0.0";
    let alike = version.iter().zip(shape).all(|(given, wanted)| match wanted {
        b'0' => given.is_ascii_digit(),
        _ => given == wanted,
    });
    match (alike, version.len() < shape.len()) {
        (true, true) => Ok(None),
        (true, false) => Err(Refusal::new(505, "a version other than HTTP/1.0 and HTTP/1.1")),
        (false, _) => Err(Refusal::bad("the request line does not end with an HTTP version")),
    }
}

fn refusal(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::HeaderName => {
            Refusal::bad("an invalid byte in a header name, a folded line, or white space before a colon")
        }
        httparse::Error::HeaderValue => Refusal::bad("an invalid byte in a header value"),
        httparse::Error::NewLine => Refusal::bad("a bare CR"),
        httparse::Error::TooManyHeaders => Refusal::new(431, "more header lines than allowed"),
        httparse::Error::Token | httparse::Error::Status | httparse::Error::Version => {
            Refusal::bad("the request line is malformed")
        }
    }
}
