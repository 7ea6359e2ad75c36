//! Cross-origin resource sharing ([Fetch](https://fetch.spec.whatwg.org/#http-cors-protocol)): which origins' pages
//! may read responses.
//!
//! Not an access control of the API: privileges are the database's.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN,
};
use http::{HeaderMap, Method, StatusCode};

use super::Response;

const METHODS: &str = "GET, POST, PATCH, PUT, DELETE, OPTIONS, HEAD";

/// Headers a page may always send.
const SAFE_HEADERS: [&str; 3] = ["Accept", "Accept-Language", "Content-Language"];

const EXPOSED_HEADERS: &str = "Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Location, Server, \
                               Transfer-Encoding, Range-Unit";

/// Adds the CORS headers if the request's origin is allowed; without configured origins, all are.
pub fn allow(request: &HeaderMap, origins: Option<&[String]>, response: &mut Response) {
    if let Some(origin) = allowed_origin(request, origins) {
        add_origin(&origin, &mut response.headers);
        response.headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED_HEADERS));
    }
}

/// The response to a preflight request; `None` if the request is none.
pub fn preflight(method: &Method, request: &HeaderMap, origins: Option<&[String]>) -> Option<Response> {
    let wanted = request.get(ACCESS_CONTROL_REQUEST_METHOD)?.to_str().ok()?;
    if *method != Method::OPTIONS || !METHODS.split(", ").any(|method| method == wanted) {
        return None;
    }
    let origin = allowed_origin(request, origins)?;
    let mut response = Response::empty(StatusCode::OK);
    response.set_body(Bytes::new());
    add_origin(&origin, &mut response.headers);
    response.headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    response.insert(ACCESS_CONTROL_ALLOW_HEADERS, &allowed_headers(request));
    response.headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    Some(response)
}

/// The value of `Access-Control-Allow-Origin`; `None` if there is no origin or it is not allowed.
fn allowed_origin(request: &HeaderMap, origins: Option<&[String]>) -> Option<HeaderValue> {
    let origin = request.get(ORIGIN)?;
    match origins {
        None | Some([]) => Some(HeaderValue::from_static("*")),
        Some(origins) => {
            origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| origin.clone())
        }
    }
}

fn add_origin(origin: &HeaderValue, headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    if origin != "*" {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
}

fn allowed_headers(request: &HeaderMap) -> String {
    let wanted =
        request.get(ACCESS_CONTROL_REQUEST_HEADERS).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let all = std::iter::once("Authorization").chain(wanted.split(',').map(str::trim)).chain(SAFE_HEADERS);
    let mut allowed: Vec<&str> = Vec::new();
    for header in all.filter(|header| !header.is_empty()) {
        if !allowed.iter().any(|known| known.eq_ignore_ascii_case(header)) {
            allowed.push(header);
        }
    }
    allowed.join(", ")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use http::HeaderName;

    use super::*;

    fn check(headers: &[(&'static str, &'static str)], origins: Option<&[&str]>, expect: &Expect) {
        let request = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let origins: Option<Vec<String>> = origins.map(|all| all.iter().copied().map(String::from).collect());
        let response = preflight(&Method::OPTIONS, &request, origins.as_deref()).unwrap_or_else(|| {
            let mut response = Response::empty(StatusCode::NO_CONTENT);
            allow(&request, origins.as_deref(), &mut response);
            response
        });
        let headers: Vec<String> = response
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        expect.assert_eq(&headers.join("\n"));
    }

    #[test]
    fn answers_preflights() {
        let asks = [
            ("origin", "http://a.example"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "Foo, accept,Bar"),
        ];
        check(
            &asks,
            None,
            &expect![[r#"
            content-length: 0
            access-control-allow-origin: *
            access-control-allow-methods: GET, POST, PATCH, PUT, DELETE, OPTIONS, HEAD
            access-control-allow-headers: Authorization, Foo, accept, Bar, Accept-Language, Content-Language
            access-control-max-age: 86400"#]],
        );
        check(
            &asks,
            Some(&["http://a.example", "http://b.example"]),
            &expect![[r#"
            content-length: 0
            access-control-allow-origin: http://a.example
            access-control-allow-credentials: true
            access-control-allow-methods: GET, POST, PATCH, PUT, DELETE, OPTIONS, HEAD
            access-control-allow-headers: Authorization, Foo, accept, Bar, Accept-Language, Content-Language
            access-control-max-age: 86400"#]],
        );
        check(&asks, Some(&["http://b.example"]), &expect![[""]]);
        check(
            &[("origin", "http://a.example"), ("access-control-request-method", "TRACE")],
            None,
            &expect![[r#"
                access-control-allow-origin: *
                access-control-expose-headers: Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Location, Server, Transfer-Encoding, Range-Unit"#]],
        );
    }

    #[test]
    fn allowed_origins_may_read_responses() {
        check(&[], None, &expect![[""]]);
        check(
            &[("origin", "http://a.example")],
            Some(&[]),
            &expect![[r#"
            access-control-allow-origin: *
            access-control-expose-headers: Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Location, Server, Transfer-Encoding, Range-Unit"#]],
        );
        check(
            &[("origin", "http://b.example")],
            Some(&["http://b.example"]),
            &expect![[r#"
            access-control-allow-origin: http://b.example
            access-control-allow-credentials: true
            access-control-expose-headers: Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Location, Server, Transfer-Encoding, Range-Unit"#]],
        );
        check(&[("origin", "http://c.example")], Some(&["http://b.example"]), &expect![[""]]);
    }
}
