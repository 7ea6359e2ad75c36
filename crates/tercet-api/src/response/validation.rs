//! Validates and frames every response according to HTTP ([RFC 9110](https://www.rfc-editor.org/rfc/rfc9110), [RFC
//! 9112](https://www.rfc-editor.org/rfc/rfc9112)), whatever SQL has set.
//!
//! Connection headers and body framing are the server's. An invalid response becomes PGRST112, since a proxy would
//! take it for a broken server.

use bytes::Bytes;
use http::header::{
    AGE, ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG,
    EXPIRES, HeaderName, HeaderValue, LAST_MODIFIED, LOCATION, RETRY_AFTER, SERVER, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, StatusCode};

use super::Response;
use crate::response_headers::{HEAD_BYTES, InvalidResponse, LINES, OPTIONAL, OPTIONAL_BYTES};

/// The maximum length of a reason phrase, in bytes.
const REASON_BYTES: usize = 128;

/// Connection and framing headers (RFC 9110 section 7.6.1), and `Date`, which the server sets.
const OWN: [HeaderName; 10] = [
    CONNECTION,
    DATE,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("proxy"),
];

/// Headers that may occur once (RFC 9110 section 5.3).
const SINGLE: [HeaderName; 11] = [
    AGE,
    CONTENT_LOCATION,
    CONTENT_RANGE,
    CONTENT_TYPE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    LOCATION,
    RETRY_AFTER,
    SERVER,
    ALLOW,
];

/// Validates and frames a response; for HEAD the headers describe a body that is not sent.
///
/// # Errors
/// The response is invalid.
pub fn validated(mut response: Response, head: bool) -> Result<Response, InvalidResponse> {
    let status = response.status;
    if !(200..600).contains(&status.as_u16()) {
        return Err(InvalidResponse::Status(status.as_u16()));
    }
    let is_phrase = |reason: &String| {
        !reason.is_empty()
            && reason.len() <= REASON_BYTES
            && reason.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    };
    response.reason = response.reason.filter(is_phrase);
    for name in &OWN {
        response.headers.remove(name);
    }
    for name in &SINGLE {
        keep_last(&mut response.headers, name);
    }
    for name in &OPTIONAL {
        if response.headers.get(name).is_some_and(|value| value.len() > OPTIONAL_BYTES) {
            response.headers.remove(name);
        }
    }
    if status == StatusCode::UNAUTHORIZED && !response.headers.contains_key(WWW_AUTHENTICATE) {
        response.headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    frame(&mut response, head);
    let lines = response.headers.len();
    let bytes = response.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes > HEAD_BYTES || lines > LINES {
        return Err(InvalidResponse::Head { bytes, lines });
    }
    Ok(response)
}

/// Sets the length of the body, and removes the body where the status has none (RFC 9110 sections 15.3.5, 15.3.6 and
/// 15.4.5).
fn frame(response: &mut Response, head: bool) {
    match response.status {
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED => {
            response.body = Bytes::new();
            for name in [CONTENT_LENGTH, CONTENT_TYPE] {
                response.headers.remove(name);
            }
            if response.status == StatusCode::RESET_CONTENT {
                response.headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
            }
        }
        // the length is unknown if the body was not built
        _ if head && response.body.is_empty() => _ = response.headers.remove(CONTENT_LENGTH),
        _ => _ = response.headers.insert(CONTENT_LENGTH, HeaderValue::from(response.body.len())),
    }
}

fn keep_last(headers: &mut HeaderMap, name: &HeaderName) {
    let mut values = headers.get_all(name).iter();
    if let Some(last) = values.next_back().filter(|_| values.next_back().is_some()).cloned() {
        headers.insert(name, last);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn response(status: u16, headers: &[(&str, &str)], body: &str) -> Response {
        let mut response = Response::empty(StatusCode::from_u16(status).unwrap());
        response.set_body(Bytes::copy_from_slice(body.as_bytes()));
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            response.headers.try_append(name, HeaderValue::from_str(value).unwrap()).unwrap();
        }
        response
    }

    fn check(status: u16, headers: &[(&str, &str)], body: &str, expected: &str) {
        let printed = match validated(response(status, headers, body), false) {
            Ok(sent) => {
                let headers: Vec<_> = sent
                    .headers
                    .iter()
                    .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                    .collect();
                format!("{} [{}] {:?}", sent.status.as_u16(), headers.join(", "), sent.body)
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(printed, expected, "{status} {headers:?}");
    }

    #[test]
    fn drops_the_body_where_the_status_has_none() {
        check(200, &[], "body", "200 [content-length: 4] b\"body\"");
        check(204, &[("content-type", "text/plain")], "body", "204 [] b\"\"");
        check(205, &[], "body", "205 [content-length: 0] b\"\"");
        check(304, &[("etag", "\"a\"")], "body", "304 [etag: \"a\"] b\"\"");
        check(599, &[], "body", "599 [content-length: 4] b\"body\"");
        check(401, &[], "", "401 [content-length: 0, www-authenticate: Bearer] b\"\"");
        for status in [100, 101, 103, 199, 600, 999] {
            let message = format!("status {status} is not one of 200 to 599");
            check(status, &[], "body", &message);
        }
    }

    #[test]
    fn removes_connection_headers_and_sets_framing() {
        for (name, value) in [
            ("Content-Length", "7"),
            ("Transfer-Encoding", "chunked"),
            ("Connection", "close, x-a"),
            ("Upgrade", "websocket"),
            ("Trailer", "x-sum"),
            ("Keep-Alive", "timeout=5"),
            ("Date", "yesterday"),
            ("TE", "trailers"),
        ] {
            check(200, &[(name, value), ("x-a", "1")], "b", "200 [content-length: 1, x-a: 1] b\"b\"");
        }
        check(
            200,
            &[("content-type", "a"), ("content-type", "b"), ("set-cookie", "a"), ("set-cookie", "b")],
            "b",
            "200 [content-length: 1, content-type: b, set-cookie: a, set-cookie: b] b\"b\"",
        );
    }

    #[test]
    fn rejects_large_heads() {
        let long = "x".repeat(40 << 10);
        check(200, &[("content-location", &long)], "b", "200 [content-length: 1] b\"b\"");
        let half = "x".repeat(HEAD_BYTES / 2);
        let sent = validated(response(200, &[("x-a", &half), ("x-b", &half)], ""), false);
        assert!(matches!(sent, Err(InvalidResponse::Head { lines: 3, .. })), "{sent:?}");
        let many = vec![("set-cookie", "a"); LINES];
        assert!(matches!(validated(response(200, &many, ""), false), Err(InvalidResponse::Head { .. })));
    }

    proptest! {
        #[test]
        fn validation_is_idempotent(
            status in 100_u16..1000,
            headers in proptest::collection::vec(("[a-zA-Z!#$%&'*+.^_`|~0-9-]{1,20}", "[ -~]{0,40}"), 0..8),
            own in proptest::sample::subsequence(OWN.to_vec(), 0..4),
            body in ".{0,20}",
            head in any::<bool>(),
        ) {
            let mut response = response(status, &[], &body);
            for (name, value) in &headers {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                response.headers.try_append(name, HeaderValue::from_str(value).unwrap()).unwrap();
            }
            for name in own {
                response.headers.try_append(name, HeaderValue::from_static("x")).unwrap();
            }
            let Ok(sent) = validated(response, head) else {
                prop_assert!(!(200..600).contains(&status));
                return Ok(());
            };
            prop_assert!(OWN.iter().all(|name| !sent.headers.contains_key(name)));
            let length = sent.headers.get(CONTENT_LENGTH).map(|value| value.to_str().unwrap().to_owned());
            prop_assert!(length.is_none_or(|length| length == sent.body.len().to_string()));
            let again = validated(sent.clone(), head).unwrap();
            prop_assert_eq!((again.status, again.headers, again.body), (sent.status, sent.headers, sent.body));
        }
    }
}
