//! The response that SQL asked for: the settings `response.status` and `response.headers`.

use http::StatusCode;
use http::header::{HeaderName, HeaderValue};
use serde_json::Value;

use super::Response;
use crate::error::RequestError;

/// What SQL set, checked.
pub(super) struct Settings {
    status: Option<StatusCode>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Settings {
    /// Reads both settings; what was set in no statement of the transaction is absent or empty.
    pub(super) fn parse(status: Option<&str>, headers: Option<&str>) -> Result<Self, RequestError> {
        let status = status
            .filter(|text| !text.is_empty())
            .map(|text| {
                let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
                let code = text[..digits].parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
                code.ok_or(RequestError::ResponseStatusSetting)
            })
            .transpose()?;
        let headers = headers
            .filter(|text| !text.is_empty())
            .map(|text| parse_headers(text).ok_or(RequestError::ResponseHeadersSetting))
            .transpose()?;
        Ok(Self { status, headers: headers.unwrap_or_default() })
    }

    /// They replace what the response says under the same names, and may say it several times.
    pub(super) fn apply(self, response: &mut Response) {
        if let Some(status) = self.status {
            response.status = status;
        }
        for (name, _) in &self.headers {
            response.headers.remove(name);
        }
        for (name, value) in self.headers {
            response.headers.append(name, value);
        }
    }
}

/// An array of objects with one text each.
fn parse_headers(text: &str) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let Value::Array(items) = serde_json::from_str(text).ok()? else { return None };
    let mut headers = Vec::with_capacity(items.len());
    for item in items {
        let Value::Object(object) = item else { return None };
        let mut members = object.into_iter();
        let (Some((name, Value::String(value))), None) = (members.next(), members.next()) else {
            return None;
        };
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.push((name, HeaderValue::from_bytes(value.as_bytes()).ok()?));
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use http::header::VARY;

    use super::*;

    fn check(status: Option<&str>, headers: Option<&str>, expect: &Expect) {
        let actual = match Settings::parse(status, headers) {
            Ok(settings) => {
                let mut response = Response::empty(StatusCode::OK);
                response.headers.insert(VARY, HeaderValue::from_static("Accept"));
                settings.apply(&mut response);
                format!("{} {:?}", response.status, response.headers)
            }
            Err(error) => error.code().to_owned(),
        };
        expect.assert_eq(&actual);
    }

    #[test]
    fn replaces_status_and_headers() {
        check(None, None, &expect![[r#"200 OK {"vary": "Accept"}"#]]);
        check(Some(""), Some(""), &expect![[r#"200 OK {"vary": "Accept"}"#]]);
        check(
            Some("205"),
            Some(r#"[{"Vary":"X"},{"Set-Cookie":"a=1"},{"Set-Cookie":"b=2"}]"#),
            &expect![[r#"205 Reset Content {"vary": "X", "set-cookie": "a=1", "set-cookie": "b=2"}"#]],
        );
    }

    #[test]
    fn refuses_what_cannot_be_sent() {
        check(Some("teapot"), None, &expect!["PGRST112"]);
        check(Some("42"), None, &expect!["PGRST112"]);
        check(None, Some(r#"{"Vary":"X"}"#), &expect!["PGRST111"]);
        check(None, Some(r#"[{"Vary":1}]"#), &expect!["PGRST111"]);
        check(None, Some(r#"[{"a":"1","b":"2"}]"#), &expect!["PGRST111"]);
        check(None, Some(r#"[{"a":"1\r\nb: 2"}]"#), &expect!["PGRST111"]);
        check(None, Some(r#"[{"a b":"1"}]"#), &expect!["PGRST111"]);
    }
}
