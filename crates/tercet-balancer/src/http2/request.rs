//! Converts the head of an HTTP/2 request to HTTP/1.1 (RFC 9113 section 8.3.1).
//!
//! This module only checks rules that are specific to HTTP/2; the HTTP/1 parser checks all others.

use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::{HeaderValue, Method, request};

use super::guard::PLACEHOLDER;
use crate::http1::write::push_line;

/// How the body is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// There is none.
    None,
    /// Unchanged; its length is known.
    Plain,
    /// Chunked, with trailers.
    Chunked,
}

/// A malformed request, and the reason.
#[derive(Debug)]
pub(super) struct Malformed(pub(super) &'static str);

/// Writes the head with its empty line. `replaced` are the original bytes of the path that the guard has replaced by
/// [`PLACEHOLDER`].
///
/// # Errors
/// The request is malformed.
pub(super) fn write(
    out: &mut Vec<u8>,
    parts: &request::Parts,
    replaced: Option<&[u8]>,
    has_ended: bool,
) -> Result<Body, Malformed> {
    // h2 accepts a request without :path if it has no :authority.
    let path = parts.uri.path_and_query().filter(|_| !parts.uri.path().is_empty());
    let path = path.ok_or(Malformed("no :path"))?.as_str();
    if parts.headers.values().any(|value| !is_trimmed(value)) {
        return Err(Malformed("white space around a header value"));
    }
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b' ');
    match replaced {
        None => out.extend_from_slice(path.as_bytes()),
        Some(replaced) => {
            let mut replaced = replaced.iter();
            out.extend(path.bytes().map(|byte| match byte {
                PLACEHOLDER => *replaced.next().unwrap_or(&PLACEHOLDER),
                byte => byte,
            }));
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");

    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    if let Some(authority) = authority {
        push_line(out, b"host", authority.as_bytes());
    }
    for (name, value) in &parts.headers {
        // A Host equal to :authority is redundant. Another one becomes a second Host line, which the parser refuses.
        let is_repeated = name == HOST && authority.is_some_and(|authority| value == authority);
        if name != COOKIE && !is_repeated {
            push_line(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    push_cookies(out, parts);
    let body = match (has_ended, parts.headers.contains_key(CONTENT_LENGTH)) {
        (true, has_length) => {
            // RFC 9110 section 8.6: a request without content has to say so if its method defines a meaning for it.
            if !has_length && matches!(parts.method, Method::POST | Method::PUT | Method::PATCH) {
                push_line(out, b"content-length", b"0");
            }
            Body::None
        }
        (false, true) => Body::Plain,
        (false, false) => {
            push_line(out, b"transfer-encoding", b"chunked");
            Body::Chunked
        }
    };
    out.extend_from_slice(b"\r\n");
    Ok(body)
}

/// Appends all cookie fields as one line (RFC 9113 section 8.2.3).
fn push_cookies(out: &mut Vec<u8>, parts: &request::Parts) {
    let cookies: Vec<&[u8]> = parts.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if !cookies.is_empty() {
        push_line(out, b"cookie", &cookies.join(&b"; "[..]));
    }
}

/// Whether a value neither starts nor ends with white space (RFC 9113 section 8.2.1).
fn is_trimmed(value: &HeaderValue) -> bool {
    let is_white = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let value = value.as_bytes();
    !is_white(value.first()) && !is_white(value.last())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use http::Request;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check(request: request::Builder, has_ended: bool, body: Body, expected: Expect) {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let mut out = Vec::new();
        assert_eq!(write(&mut out, &parts, None, has_ended).unwrap(), body);
        expected.assert_eq(&String::from_utf8(out).unwrap().replace("\r\n", "\n"));
    }

    #[test]
    fn requests_are_converted_to_http1() {
        check(
            Request::get("http://shop.example:80/a?b")
                .header("cookie", "a=1")
                .header("x", "1")
                .header("cookie", "b=2"),
            true,
            Body::None,
            expect![[r"
                GET /a?b HTTP/1.1
                host: shop.example:80
                x: 1
                cookie: a=1; b=2

            "]],
        );
        check(
            Request::post("http://shop.example/").header("host", "shop.example").header("te", "trailers"),
            false,
            Body::Chunked,
            expect![[r"
                POST / HTTP/1.1
                host: shop.example
                te: trailers
                transfer-encoding: chunked

            "]],
        );
        check(
            Request::put("http://a/").header("content-length", "3"),
            false,
            Body::Plain,
            expect![[r"
            PUT / HTTP/1.1
            host: a
            content-length: 3

        "]],
        );
        check(
            Request::post("http://a/"),
            true,
            Body::None,
            expect![[r"
            POST / HTTP/1.1
            host: a
            content-length: 0

        "]],
        );
        check(
            Request::get("/").header("host", "a"),
            true,
            Body::None,
            expect![[r"
            GET / HTTP/1.1
            host: a

        "]],
        );
        check(
            Request::get("http://a/").header("host", "b"),
            true,
            Body::None,
            expect![[r"
            GET / HTTP/1.1
            host: a
            host: b

        "]],
        );
    }

    #[test]
    fn values_with_white_space_around_them_are_malformed() {
        for value in [" a", "a ", "\ta"] {
            let (parts, ()) = Request::get("http://a/").header("x", value).body(()).unwrap().into_parts();
            assert!(write(&mut Vec::new(), &parts, None, true).is_err());
        }
    }
}
