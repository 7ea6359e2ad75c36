//! Validates request heads before hyper parses them ([RFC 9112](https://www.rfc-editor.org/rfc/rfc9112) sections 2 to
//! 6): percent-encodes the target where clients did not, finds the end of the body, and rejects what is malformed
//! with a reason the client can read.
//!
//! hyper answers a malformed request with an empty body and does not log it, so everything hyper would reject is
//! rejected here. No input or output.

use std::mem::MaybeUninit;

use http::{StatusCode, Uri};
use memchr::{memchr, memmem};

/// The longest head, in bytes.
const HEAD_BYTES: usize = 256 << 10;
/// The most header lines.
const LINES: usize = 100;
/// The longest target, in bytes once percent-encoded; hyper's limit.
const TARGET_BYTES: usize = 65_534;
/// The longest header name, in bytes.
const NAME_BYTES: usize = 1024;
/// How many bytes of a rejected request's first line are logged.
const LOGGED_BYTES: usize = 200;

/// A validated request head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its length in bytes.
    pub(super) length: usize,
    /// The head with its target percent-encoded; `None` if it already was.
    pub(super) encoded: Option<Vec<u8>>,
    /// How the end of the body is found.
    pub(super) body: Body,
}

/// How the end of a body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// After this many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
}

/// A rejected request head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    /// The response status.
    pub(super) status: StatusCode,
    /// The reason.
    pub(super) reason: &'static str,
    /// The start of the first line, for the log.
    pub(super) line: String,
}

type Fault = (StatusCode, &'static str);

const fn bad(reason: &'static str) -> Fault {
    (StatusCode::BAD_REQUEST, reason)
}

impl Rejection {
    /// Rejects the request that starts with `bytes`.
    pub(super) fn new((status, reason): Fault, bytes: &[u8]) -> Self {
        let end = memchr(b'\n', bytes).unwrap_or(bytes.len()).min(LOGGED_BYTES);
        let line = String::from_utf8_lossy(&bytes[..end]).trim_end().escape_debug().to_string();
        Self { status, reason, line }
    }

    /// The head did not arrive before the timeout.
    pub(super) fn timed_out(bytes: &[u8]) -> Self {
        Self::new((StatusCode::REQUEST_TIMEOUT, "the head of the request did not arrive in time"), bytes)
    }

    /// The client closed the connection in the middle of the head.
    pub(super) fn truncated(bytes: &[u8]) -> Self {
        Self::new(bad("the request ends in the middle of its head"), bytes)
    }
}

/// Whether `bytes` contain the end of a head; those before `from` have been searched.
pub(super) fn may_have_end(bytes: &[u8], from: usize) -> bool {
    let unsearched = &bytes[from.saturating_sub(3)..];
    memmem::find(unsearched, b"\n\r\n").is_some() || memmem::find(unsearched, b"\n\n").is_some()
}

/// Parses the head at the start of `bytes`; `None` if it is incomplete.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Head>, Rejection> {
    parse(bytes).map_err(|fault| Rejection::new(fault, bytes))
}

fn parse(bytes: &[u8]) -> Result<Option<Head>, Fault> {
    let mut lines = [const { MaybeUninit::uninit() }; LINES];
    let mut request = httparse::Request::new(&mut []);
    let parsed =
        httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut request, bytes, &mut lines);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_BYTES => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES => {
            let line = memchr(b'\n', bytes).unwrap_or(bytes.len());
            // the method and a space precede the target
            return if line > TARGET_BYTES + 64 { Err(too_long()) } else { Ok(None) };
        }
        Ok(_) => {
            let reason = "the head of the request is longer than allowed";
            return Err((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason));
        }
        Err(error) => return Err(fault(error, bytes)),
    };
    let (Some(target), Some(minor)) = (request.path, request.version) else {
        return Err(bad("the request line is malformed"));
    };
    if request.headers.iter().any(|line| line.name.len() > NAME_BYTES) {
        let reason = "the name of a header is longer than allowed";
        return Err((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason));
    }
    let body = body(request.headers, minor)?;
    let encoded = encode(target)?;
    let sent = encoded.as_deref().unwrap_or(target);
    if sent.len() > TARGET_BYTES {
        return Err(too_long());
    }
    if !sent.starts_with('/') && Uri::try_from(sent).is_err() {
        return Err(bad("the request target is malformed"));
    }
    let encoded = encoded.map(|encoded| {
        let start = bytes.len() - bytes.trim_ascii_start().len();
        let start = start + memchr(b' ', &bytes[start..length]).map_or(0, |space| space + 1);
        [&bytes[..start], encoded.as_bytes(), &bytes[start + target.len()..length]].concat()
    });
    Ok(Some(Head { length, encoded, body }))
}

const fn too_long() -> Fault {
    (StatusCode::URI_TOO_LONG, "the request target is longer than allowed")
}

/// Percent-encodes what RFC 3986 requires and clients send as it is (`data->>name`, `"quoted"`, `é`); `None` if
/// nothing had to be.
fn encode(target: &str) -> Result<Option<String>, Fault> {
    if target.contains('#') {
        return Err(bad("the request target contains a # that is not percent-encoded"));
    }
    let is_plain =
        |byte: u8| !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x7f..);
    if target.bytes().all(is_plain) {
        return Ok(None);
    }
    let mut encoded = String::with_capacity(target.len() + 32);
    for byte in target.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            let digit = |half: u8| char::from(b"0123456789ABCDEF"[usize::from(half)]);
            encoded.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    Ok(Some(encoded))
}

fn body(lines: &[httparse::Header<'_>], minor: u8) -> Result<Body, Fault> {
    let mut length = None;
    let mut chunked = false;
    for line in lines {
        if line.name.eq_ignore_ascii_case("content-length") {
            let digits = line.value.trim_ascii();
            let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
            let own =
                std::str::from_utf8(digits).ok().filter(|_| is_number).and_then(|digits| digits.parse().ok());
            let own: u64 = own.ok_or(bad("Content-Length is not a number"))?;
            if length.is_some_and(|length| length != own) {
                return Err(bad("there are different values of Content-Length"));
            }
            length = Some(own);
        } else if line.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !line.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err((StatusCode::NOT_IMPLEMENTED, "the only transfer coding supported is chunked"));
            }
            chunked = true;
        }
    }
    match (chunked, length) {
        (true, Some(_)) => Err(bad("the request has both Content-Length and Transfer-Encoding")),
        (true, None) if minor == 0 => Err(bad("Transfer-Encoding is not part of HTTP/1.0")),
        (true, None) => Ok(Body::Chunked),
        (false, length) => Ok(Body::Length(length.unwrap_or(0))),
    }
}

fn fault(error: httparse::Error, bytes: &[u8]) -> Fault {
    match error {
        _ if bytes.first() == Some(&0x16) => bad("this is TLS; the data API serves HTTP/1.1 without TLS"),
        httparse::Error::Version if bytes.starts_with(b"PRI * HTTP/2.0\r\n") => (
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "the data API serves HTTP/1.1; the balancer in front of it serves HTTP/2",
        ),
        httparse::Error::Version => {
            (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "the request line does not end in HTTP/1.0 or HTTP/1.1")
        }
        httparse::Error::TooManyHeaders => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request has more header lines than allowed")
        }
        httparse::Error::HeaderName => bad("a header name contains an invalid byte"),
        httparse::Error::HeaderValue => bad("a header value contains an invalid byte"),
        httparse::Error::NewLine => bad("a carriage return is not followed by a line feed"),
        httparse::Error::Token | httparse::Error::Status => bad("the request line is malformed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &[u8], expected: &str) {
        let printed = match read(head) {
            Ok(None) => "more".to_owned(),
            Ok(Some(Head { length, encoded, body })) => {
                assert_eq!(length, head.len());
                let encoded = encoded.unwrap_or_else(|| head.to_owned());
                let line = String::from_utf8(encoded).unwrap();
                format!("{} {body:?}", line.lines().find(|line| !line.is_empty()).unwrap())
            }
            Err(Rejection { status, reason, .. }) => format!("{} {reason}", status.as_u16()),
        };
        assert_eq!(printed, expected, "{}", String::from_utf8_lossy(head));
    }

    #[test]
    fn percent_encodes_targets() {
        for (sent, encoded) in [
            ("/t?select=id,data->>blood_type", "/t?select=id,data-%3E%3Eblood_type"),
            (r#"/t?range=adj."[18,21)""#, "/t?range=adj.%22[18,21)%22"),
            ("/t?a=cs.{1}&b=eq.\\|^`<x", "/t?a=cs.%7B1%7D&b=eq.%5C%7C%5E%60%3Cx"),
            ("/rpc/café?n=é%C3%A9", "/rpc/caf%C3%A9?n=%C3%A9%C3%A9"),
            ("http://host/t?a->b=eq.1", "http://host/t?a-%3Eb=eq.1"),
            ("/t?a=%3E%zz", "/t?a=%3E%zz"),
            ("*", "*"),
        ] {
            for before in ["", "\r\n"] {
                let head = format!("{before}GET {sent} HTTP/1.1\r\nhost: a\r\n\r\n");
                check(head.as_bytes(), &format!("GET {encoded} HTTP/1.1 Length(0)"));
            }
        }
    }

    #[test]
    fn finds_the_end_of_the_body() {
        let with = |lines: &str| format!("POST / HTTP/1.1\r\n{lines}\r\n").into_bytes();
        check(&with("content-length: 7\r\nContent-Length: 7\r\n"), "POST / HTTP/1.1 Length(7)");
        check(&with("transfer-encoding: Chunked\r\n"), "POST / HTTP/1.1 Chunked");
        check(
            &with("content-length: 7\r\ncontent-length: 8\r\n"),
            "400 there are different values of Content-Length",
        );
        check(&with("content-length: +7\r\n"), "400 Content-Length is not a number");
        check(&with("content-length: 99999999999999999999\r\n"), "400 Content-Length is not a number");
        check(
            &with("transfer-encoding: gzip, chunked\r\n"),
            "501 the only transfer coding supported is chunked",
        );
        let both = "content-length: 7\r\ntransfer-encoding: chunked\r\n";
        check(&with(both), "400 the request has both Content-Length and Transfer-Encoding");
        check(
            b"POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
            "400 Transfer-Encoding is not part of HTTP/1.0",
        );
    }

    #[test]
    fn rejects_malformed_requests_with_a_reason() {
        check(b"GET / HTTP/1.1\r\nhost: a\r\n", "more");
        check(b"GET /\r\n\r\n", "400 the request line is malformed");
        check(b"GET /a b HTTP/1.1\r\n\r\n", "505 the request line does not end in HTTP/1.0 or HTTP/1.1");
        check(b"GET /\xff HTTP/1.1\r\n\r\n", "400 the request line is malformed");
        check(
            b"GET /a#b HTTP/1.1\r\n\r\n",
            "400 the request target contains a # that is not percent-encoded",
        );
        check(b"GET a HTTP/1.1 \r\n\r\n", "400 a carriage return is not followed by a line feed");
        check(b"GET [ HTTP/1.1\r\n\r\n", "400 the request target is malformed");
        check(b"GET / HTTP/1.1\r\na b: c\r\n\r\n", "400 a header name contains an invalid byte");
        check(b"GET / HTTP/1.1\r\na: \0\r\n\r\n", "400 a header value contains an invalid byte");
        check(
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            "400 this is TLS; the data API serves HTTP/1.1 without TLS",
        );
        check(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "505 the data API serves HTTP/1.1; the balancer in front of it serves HTTP/2",
        );
        let long = "x".repeat(TARGET_BYTES);
        check(
            format!("GET /{long} HTTP/1.1\r\n\r\n").as_bytes(),
            "414 the request target is longer than allowed",
        );
        check(
            format!("GET /{long}{}", "x".repeat(64)).as_bytes(),
            "414 the request target is longer than allowed",
        );
        let quotes = "\"".repeat(TARGET_BYTES / 2);
        check(
            format!("GET /{quotes} HTTP/1.1\r\n\r\n").as_bytes(),
            "414 the request target is longer than allowed",
        );
        let many = "a: b\r\n".repeat(LINES + 1);
        check(
            format!("GET / HTTP/1.1\r\n{many}\r\n").as_bytes(),
            "431 the request has more header lines than allowed",
        );
        let large = format!("GET / HTTP/1.1\r\na: {}", "x".repeat(HEAD_BYTES));
        check(large.as_bytes(), "431 the head of the request is longer than allowed");
        let name = format!("GET / HTTP/1.1\r\n{}: b\r\n\r\n", "x".repeat(NAME_BYTES + 1));
        check(name.as_bytes(), "431 the name of a header is longer than allowed");
    }

    proptest::proptest! {
        #[test]
        fn hyper_accepts_every_validated_head(
            method in "[A-Z]{1,8}",
            target in "(/|/t\\?|http://h/)[!-~é]{0,40}",
            lines in proptest::collection::vec(("[a-z-]{1,12}", "[ -~]{0,20}"), 0..5),
        ) {
            let lines: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let head = format!("{method} {target} HTTP/1.1\r\n{lines}\r\n");
            if let Ok(passed) = read(head.as_bytes()) {
                let passed = passed.unwrap();
                let encoded = passed.encoded.unwrap_or_else(|| head.into_bytes());
                let line = String::from_utf8(encoded).unwrap();
                let target = line.split(' ').nth(1).unwrap();
                proptest::prop_assert!(Uri::try_from(target).is_ok(), "{target}");
            }
        }
    }
}
