//! Checks the encoding of bodies: only unencoded UTF-8 is supported. Other declarations are rejected, whatever the
//! bytes.

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

use crate::error::RequestError;

/// Rejects a body with an unsupported encoding.
///
/// # Errors
/// Several content types, a charset other than UTF-8, or a `Content-Encoding`.
pub(super) fn check(headers: &HeaderMap) -> Result<(), RequestError> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let content_type = types.next().map(|value| String::from_utf8_lossy(value.as_bytes()));
    if types.next().is_some() {
        return Err(RequestError::Body("Content-Type is given twice".into()));
    }
    for value in headers.get_all(CONTENT_ENCODING) {
        let value = String::from_utf8_lossy(value.as_bytes());
        let is_plain =
            |coding: &str| coding.trim().is_empty() || coding.trim().eq_ignore_ascii_case("identity");
        if !value.split(',').all(is_plain) {
            return Err(RequestError::BodyEncoding(format!("Content-Encoding: {value}")));
        }
    }
    let charsets = content_type.as_deref().unwrap_or_default().split(';').skip(1).filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches(['"', '\'']))
    });
    for charset in charsets {
        // ASCII is a subset of UTF-8
        if !["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known)) {
            return Err(RequestError::BodyEncoding(format!("charset={charset}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn status(headers: &[(http::HeaderName, &'static str)]) -> Option<u16> {
        let pairs = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        pairs.for_each(|(name, value)| {
            headers.append(name, value);
        });
        check(&headers).err().map(|error| error.status().as_u16())
    }

    #[test]
    fn rejects_encoded_bodies() {
        for fine in [
            "application/json",
            "text/csv; charset=utf-8",
            "text/csv;CHARSET=\"UTF-8\";header=present",
            "a; charset=utf8",
        ] {
            assert_eq!(status(&[(CONTENT_TYPE, fine), (CONTENT_ENCODING, "identity")]), None, "{fine}");
        }
        for charset in [
            "text/csv;charset=utf-16",
            "text/csv; Charset=\"latin1\"",
            "a;charset=",
            "a;x=y; charset=utf-8;charset=utf-7",
        ] {
            assert_eq!(status(&[(CONTENT_TYPE, charset)]), Some(415), "{charset}");
        }
        for coding in ["gzip", "identity, br", "GZIP", "x"] {
            assert_eq!(status(&[(CONTENT_ENCODING, coding)]), Some(415), "{coding}");
        }
        assert_eq!(status(&[(CONTENT_ENCODING, "identity"), (CONTENT_ENCODING, "gzip")]), Some(415));
        assert_eq!(status(&[(CONTENT_TYPE, "text/csv"), (CONTENT_TYPE, "text/csv")]), Some(400));
    }
}
