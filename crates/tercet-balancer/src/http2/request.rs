//! A request that came over HTTP/2, as the HTTP/1.1 head it would have had (RFC 9113 section 8.3.1).
//!
//! What makes a request malformed in HTTP/2 alone is refused here, all else where every request is: the head
//! goes through the same parser.

use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::{HeaderValue, Method, request};

use super::guard::PLACEHOLDER;
use crate::http1::write::push_line;

/// How the body is sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// There is none.
    None,
    /// Its length is known, so its bytes go as they are.
    Plain,
    /// In chunks, with trailers after them.
    Chunked,
}

/// A request that HTTP/2 does not allow, and why.
#[derive(Debug)]
pub(super) struct Malformed(pub(super) &'static str);

/// Writes the head, its empty line included; `replaced` are the bytes of the path that have a placeholder there.
pub(super) fn write(
    out: &mut Vec<u8>,
    parts: &request::Parts,
    replaced: Option<&[u8]>,
    has_ended: bool,
) -> Result<Body, Malformed> {
    // h2 lets a request without :path through when it has no :authority either.
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
        // A Host that says the same as :authority says nothing; one that says something else is the second Host of
        // this head, and refused as such.
        let is_repeated = name == HOST && authority.is_some_and(|authority| value == authority);
        if name != COOKIE && !is_repeated {
            push_line(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    push_cookies(out, parts);
    let body = match (has_ended, parts.headers.contains_key(CONTENT_LENGTH)) {
        (true, has_length) => {
            // RFC 9110 section 8.6: where the method gives content a meaning, its absence is said.
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

/// RFC 9113 section 8.2.3: cookies that came in parts go on as one.
fn push_cookies(out: &mut Vec<u8>, parts: &request::Parts) {
    let cookies: Vec<&[u8]> = parts.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if !cookies.is_empty() {
        push_line(out, b"cookie", &cookies.join(&b"; "[..]));
    }
}

/// RFC 9113 section 8.2.1: a value neither starts nor ends with white space.
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
    fn a_request_reads_as_if_it_had_come_over_http1() {
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
