//! The request context for SQL: headers and cookies as JSON (`request.headers`, `request.cookies`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::COOKIE;

/// Headers without cookies, names in lower case; the last of several with one name. Bytes that are not UTF-8 become
/// U+FFFD.
pub(super) fn headers(headers: &HeaderMap) -> String {
    let headers: BTreeMap<&str, Cow<'_, str>> = headers
        .iter()
        .filter(|(name, _)| *name != COOKIE)
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    serde_json::to_string(&headers).expect("texts always serialise")
}

/// Cookies by name ([RFC 6265 §5.4](https://www.rfc-editor.org/rfc/rfc6265#section-5.4)); the last of several with
/// one name.
pub(super) fn cookies(headers: &HeaderMap) -> String {
    if !headers.contains_key(COOKIE) {
        return "{}".to_owned();
    }
    let texts: Vec<Cow<'_, str>> =
        headers.get_all(COOKIE).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    let cookies: BTreeMap<&str, &str> = texts
        .iter()
        .flat_map(|text| text.split(';'))
        .map(str::trim)
        .filter(|cookie| !cookie.is_empty())
        .map(|cookie| cookie.split_once('=').unwrap_or((cookie, "")))
        .map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
        .collect();
    serde_json::to_string(&cookies).expect("texts always serialise")
}
