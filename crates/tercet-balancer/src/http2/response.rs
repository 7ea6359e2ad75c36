//! Converts an HTTP/1.1 response head to HTTP/2 (RFC 9113 section 8.3.2).

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::http1::{Field, ResponseHead};

/// The response without its body; `None` if a field is invalid in HTTP/2.
pub(super) fn convert(buffer: &[u8], head: &ResponseHead) -> Option<Response<()>> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(head.status).ok()?;
    let headers = response.headers_mut();
    headers.try_reserve(head.headers.len()).ok()?;
    for header in &head.headers {
        // RFC 9113 section 8.2.2: no connection-specific fields.
        let is_connection_specific = header.field.is_hop_by_hop() && header.field != Field::LookAlike;
        if !is_connection_specific && header.field != Field::TransferEncoding {
            push(headers, header.name.in_buffer(buffer), header.value.in_buffer(buffer))?;
        }
    }
    Some(response)
}

/// The fields of the trailer lines of a chunked body; each line has its line end. `None` if a field is invalid.
pub(super) fn trailers(lines: &[u8]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let colon = memchr::memchr(b':', line)?;
        push(&mut headers, &line[..colon], line[colon + 1..].trim_ascii())?;
    }
    Some(headers)
}

fn push(headers: &mut HeaderMap, name: &[u8], value: &[u8]) -> Option<()> {
    let name = HeaderName::from_bytes(name).ok()?;
    headers.try_append(name, HeaderValue::from_bytes(value).ok()?).ok()?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::http1::HeadLimits;
    use crate::http1::Method;
    use crate::http1::response::{RequestInfo, parse};

    #[test]
    fn names_are_lower_case_and_connection_specific_fields_are_removed() {
        let buffer =
            b"HTTP/1.1 200 OK\r\nX-One: 1\r\nConnection: close\r\nKeep-Alive: 5\r\nSet-Cookie: a\r\n\
            Transfer-Encoding: chunked\r\nSet-Cookie: b\r\n\r\n";
        let request_info = RequestInfo { method: Method::Get, upgrade: false };
        let head =
            parse(buffer, &HeadLimits::of_responses(&Limits::default()), request_info).unwrap().unwrap();
        let response = convert(buffer, &head).unwrap();
        let lines: Vec<_> =
            response.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(lines, [("x-one", &b"1"[..]), ("set-cookie", b"a"), ("set-cookie", b"b")]);
    }

    #[test]
    fn trailers_keep_their_values() {
        let trailers = trailers(b"X-Sum: 1 2 \r\nx-empty:\r\n").unwrap();
        assert_eq!(trailers.get("x-sum").unwrap(), "1 2");
        assert_eq!(trailers.get("x-empty").unwrap(), "");
    }
}
