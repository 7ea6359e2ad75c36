//! The response settings of SQL: `response.status` and `response.headers`.

use http::StatusCode;

use super::Response;
use crate::error::RequestError;
use crate::query::Answer;
use crate::response_headers::InvalidResponse;
use crate::response_headers::{Headers, Listed};

/// Parsed and validated settings.
#[derive(Debug)]
pub(crate) struct Settings {
    status: Option<StatusCode>,
    headers: Headers,
}

impl Settings {
    /// Parses the settings of an answer.
    pub(crate) fn of(answer: &Answer) -> Result<Self, RequestError> {
        Self::parse(answer.status.as_deref(), answer.headers.as_deref())
    }

    /// Parses both settings; each is absent or empty if the transaction did not set it.
    fn parse(status: Option<&str>, headers: Option<&str>) -> Result<Self, RequestError> {
        let status = status
            .filter(|text| !text.is_empty())
            .map(|text| {
                let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
                let code = text[..digits].parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
                code.ok_or(RequestError::ResponseStatusSetting)
            })
            .transpose()?;
        let headers = headers.filter(|text| !text.is_empty()).map(parse_headers).transpose()?;
        Ok(Self { status, headers: headers.unwrap_or_default() })
    }

    /// Replaces headers of the same name, possibly by several.
    pub(super) fn apply(self, response: &mut Response) {
        if let Some(status) = self.status {
            response.status = status;
        }
        for name in self.headers.names() {
            response.headers.remove(name);
        }
        self.headers.add_to(&mut response.headers);
    }
}

/// An array of objects with one text each, within the size limit.
fn parse_headers(text: &str) -> Result<Headers, RequestError> {
    let Listed(headers) = serde_json::from_str(text).map_err(|_| RequestError::ResponseHeadersSetting)?;
    match headers.fault() {
        None => Ok(headers),
        Some(InvalidResponse::Header(_)) => Err(RequestError::ResponseHeadersSetting),
        Some(fault) => Err(RequestError::InvalidResponse(fault)),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use http::header::{HeaderValue, VARY};

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
    fn rejects_invalid_responses() {
        check(Some("teapot"), None, &expect!["PGRST112"]);
        check(Some("42"), None, &expect!["PGRST112"]);
        check(None, Some(r#"{"Vary":"X"}"#), &expect!["PGRST111"]);
        check(None, Some(r#"[{"Vary":1}]"#), &expect!["PGRST111"]);
        check(None, Some(r#"[{"a":"1","b":"2"}]"#), &expect!["PGRST111"]);
        check(None, Some(r#"[{"a":"1\r\nb: 2"}]"#), &expect!["PGRST111"]);
        check(None, Some(r#"[{"a b":"1"}]"#), &expect!["PGRST111"]);
        check(None, Some(r#"[{"a":"1","a":"2"}]"#), &expect!["PGRST111"]);
        check(None, Some("[{}]"), &expect!["PGRST111"]);
        let items: Vec<_> = (0..30_000).map(|number| format!(r#"{{"x-{number}":"1"}}"#)).collect();
        check(None, Some(&format!("[{}]", items.join(","))), &expect!["PGRST112"]);
        check(None, Some(&format!("[{},1]", items.join(","))), &expect!["PGRST111"]);
    }
}
