//! Errors of PostgreSQL: SQLSTATE → status, and errors whose response SQL defines (`RAISE SQLSTATE 'PGRST'`,
//! `'PT402'`).

use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use crate::response_headers::Headers;
use crate::response_headers::InvalidResponse;

/// An error reported by PostgreSQL ([fields](https://www.postgresql.org/docs/current/protocol-error-fields.html),
/// [codes](https://www.postgresql.org/docs/current/errcodes-appendix.html)).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DatabaseFailure {
    /// The SQLSTATE.
    pub sqlstate: String,
    /// The primary message.
    pub message: String,
    /// DETAIL
    pub detail: Option<String>,
    /// HINT
    pub hint: Option<String>,
    /// Whether the request had a token: a missing privilege is answered 403 with one and 401 without.
    pub authenticated: bool,
}

/// MESSAGE of `RAISE SQLSTATE 'PGRST'`.
#[derive(Debug, Deserialize)]
struct RaisedMessage {
    code: String,
    message: String,
    details: Option<String>,
    hint: Option<String>,
}

/// DETAIL of `RAISE SQLSTATE 'PGRST'`.
#[derive(Debug, Deserialize)]
struct RaisedDetail {
    status: u16,
    status_text: Option<String>,
    headers: Headers,
}

/// The parsed parts of `RAISE SQLSTATE 'PGRST'`.
enum Raised {
    /// Both parts are valid.
    Response(RaisedMessage, RaisedDetail),
    /// One part is malformed: details and hint of the error.
    Malformed(String, &'static str),
}

impl DatabaseFailure {
    /// The SQLSTATE, or the code set by SQL.
    pub(super) fn code(&self) -> String {
        match self.raised() {
            Some(Raised::Response(message, _)) => message.code,
            Some(Raised::Malformed(..)) => "PGRST121".into(),
            None => self.sqlstate.clone(),
        }
    }

    pub(super) fn message(&self) -> String {
        match self.raised() {
            Some(Raised::Response(message, _)) => message.message,
            Some(Raised::Malformed(..)) => {
                "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error".into()
            }
            None => self.message.clone(),
        }
    }

    pub(super) fn details(&self) -> Option<String> {
        match self.raised() {
            Some(Raised::Response(message, _)) => message.details,
            Some(Raised::Malformed(details, _)) => Some(details),
            None => self.detail.clone(),
        }
    }

    pub(super) fn hint(&self) -> Option<String> {
        match self.raised() {
            Some(Raised::Response(message, _)) => message.hint,
            Some(Raised::Malformed(_, hint)) => Some(hint.into()),
            None => self.hint.clone().or_else(|| self.own_hint().map(str::to_owned)),
        }
    }

    /// A hint where PostgreSQL has none.
    fn own_hint(&self) -> Option<&'static str> {
        match self.sqlstate.as_str() {
            "42P10" if self.message.contains("ON CONFLICT") => Some(
                "on_conflict must name the columns of a primary key, a unique constraint or a unique index; \
                 a partial index (… WHERE …) or an index on expressions cannot be used.",
            ),
            _ => None,
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        let internal = StatusCode::INTERNAL_SERVER_ERROR;
        match self.raised() {
            Some(Raised::Response(_, detail)) => {
                return StatusCode::from_u16(detail.status).unwrap_or(internal);
            }
            Some(Raised::Malformed(..)) => return internal,
            None => {}
        }
        let message = self.message.as_str();
        match self.sqlstate.as_str() {
            "23503" | "23505" => StatusCode::CONFLICT,
            "25006" => StatusCode::METHOD_NOT_ALLOWED,
            // pg-safeupdate: the request has no filter
            "21000" if message.ends_with("requires a WHERE clause") => StatusCode::BAD_REQUEST,
            // the token's role does not exist
            "22023" if message.starts_with("role") && message.ends_with("does not exist") => {
                StatusCode::UNAUTHORIZED
            }
            // the request asks for XML, but the rows cannot be aggregated as XML
            "42883" if message.starts_with("function xmlagg(") => StatusCode::NOT_ACCEPTABLE,
            "42883" | "42P01" => StatusCode::NOT_FOUND,
            // the body contains a row twice
            "21000" if message.contains("ON CONFLICT DO UPDATE") => StatusCode::BAD_REQUEST,
            "21000" | "42P17" | "53400" => internal,
            "42501" if self.authenticated => StatusCode::FORBIDDEN,
            "42501" => StatusCode::UNAUTHORIZED,
            "57P01" => StatusCode::SERVICE_UNAVAILABLE,
            "P0001" => StatusCode::BAD_REQUEST,
            state => match (state.get(..2).unwrap_or_default(), state.get(2..).unwrap_or_default()) {
                ("PT", status) => {
                    status.parse().ok().and_then(|code| StatusCode::from_u16(code).ok()).unwrap_or(internal)
                }
                ("08" | "53", _) => StatusCode::SERVICE_UNAVAILABLE,
                ("0L" | "0P" | "28", _) => StatusCode::FORBIDDEN,
                (
                    "09" | "25" | "2D" | "38" | "39" | "3B" | "40" | "54" | "55" | "57" | "58" | "F0" | "HV"
                    | "P0" | "XX",
                    _,
                ) => internal,
                _ => StatusCode::BAD_REQUEST,
            },
        }
    }

    /// The reason phrase set by SQL, if any.
    pub(super) fn reason(&self) -> Option<String> {
        match self.raised() {
            Some(Raised::Response(_, detail)) => detail.status_text,
            Some(Raised::Malformed(..)) => None,
            None => self.sqlstate.starts_with("PT").then(|| self.message.clone()),
        }
    }

    /// Why the response set by RAISE is invalid, if it is.
    pub(super) fn invalid_response(&self) -> Option<InvalidResponse> {
        let Some(Raised::Response(_, detail)) = self.raised() else { return None };
        detail.headers.fault().or_else(|| {
            let is_status = StatusCode::from_u16(detail.status).is_ok();
            (!is_status).then_some(InvalidResponse::Status(detail.status))
        })
    }

    pub(super) fn add_headers(&self, headers: &mut HeaderMap) {
        if let Some(Raised::Response(_, detail)) = self.raised() {
            detail.headers.add_to(headers);
        } else if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
    }

    fn raised(&self) -> Option<Raised> {
        const MESSAGE: &str = "MESSAGE must be a JSON object with obligatory keys: 'code', 'message' and optional keys: 'details', 'hint'.";
        const DETAIL: &str = "DETAIL must be a JSON object with obligatory keys: 'status', 'headers' and optional key: 'status_text'.";
        if self.sqlstate != "PGRST" {
            return None;
        }
        let Ok(message) = serde_json::from_str::<RaisedMessage>(&self.message) else {
            let details = format!("Invalid JSON value for MESSAGE: '{}'", self.message);
            return Some(Raised::Malformed(details, MESSAGE));
        };
        let Some(detail) = &self.detail else {
            return Some(Raised::Malformed("DETAIL is missing in the RAISE statement".into(), DETAIL));
        };
        Some(match serde_json::from_str::<RaisedDetail>(detail) {
            Ok(parsed) => Raised::Response(message, parsed),
            Err(_) => Raised::Malformed(format!("Invalid JSON value for DETAIL: '{detail}'"), DETAIL),
        })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::error::{ApiError, Verbosity};

    fn check(sqlstate: &str, message: &str, detail: Option<&str>, authenticated: bool, expect: &Expect) {
        let error = ApiError::from(DatabaseFailure {
            sqlstate: sqlstate.into(),
            message: message.into(),
            detail: detail.map(Into::into),
            hint: None,
            authenticated,
        });
        let body = String::from_utf8(error.json(Verbosity::Verbose)).unwrap();
        let headers: Vec<_> =
            error.headers().into_iter().map(|(name, value)| format!("{name:?}: {value:?}")).collect();
        let reason = error.reason().map(|reason| format!(" {reason}")).unwrap_or_default();
        expect.assert_eq(&format!("{}{reason}\n{body}\n{}", error.status().as_u16(), headers.join("\n")));
    }

    fn check_status(sqlstates: &[&str], expect: &Expect) {
        let status = |sqlstate: &&str| {
            let failure = DatabaseFailure {
                sqlstate: (*sqlstate).into(),
                message: String::new(),
                detail: None,
                hint: None,
                authenticated: true,
            };
            format!("{sqlstate} {}", failure.status().as_u16())
        };
        expect.assert_eq(&sqlstates.iter().map(status).collect::<Vec<_>>().join(", "));
    }

    #[test]
    fn maps_sqlstates_to_statuses() {
        check_status(
            &["08006", "53100", "57P01", "53400", "57014"],
            &expect!["08006 503, 53100 503, 57P01 503, 53400 500, 57014 500"],
        );
        check_status(
            &["23503", "23505", "23502", "25006", "25001"],
            &expect!["23503 409, 23505 409, 23502 400, 25006 405, 25001 500"],
        );
        check_status(
            &["42501", "42883", "42P01", "42P17", "42703"],
            &expect!["42501 403, 42883 404, 42P01 404, 42P17 500, 42703 400"],
        );
        check_status(
            &["P0001", "P0002", "XX000", "HV000", "54001", "21000"],
            &expect!["P0001 400, P0002 500, XX000 500, HV000 500, 54001 500, 21000 500"],
        );
        check_status(
            &["PT402", "PT40A", "PT099", "22023", "0P000", "é"],
            &expect!["PT402 402, PT40A 500, PT099 500, 22023 400, 0P000 403, é 400"],
        );
    }

    #[test]
    fn challenges_anonymous_clients() {
        check(
            "42501",
            "permission denied for table t",
            None,
            false,
            &expect![[r#"
                401
                {"code":"42501","message":"permission denied for table t","details":null,"hint":null}
                Some("proxy-status"): "PostgREST; error=42501"
                Some("www-authenticate"): "Bearer""#]],
        );
        check(
            "42501",
            "permission denied for table t",
            None,
            true,
            &expect![[r#"
                403
                {"code":"42501","message":"permission denied for table t","details":null,"hint":null}
                Some("proxy-status"): "PostgREST; error=42501""#]],
        );
        check(
            "22023",
            "role \"x\" does not exist",
            None,
            true,
            &expect![[r#"
                401
                {"code":"22023","message":"role \"x\" does not exist","details":null,"hint":null}
                Some("proxy-status"): "PostgREST; error=22023"
                Some("www-authenticate"): "Bearer""#]],
        );
    }

    #[test]
    fn raise_defines_the_whole_response() {
        let message = r#"{"code":"123","message":"ABC","details":"DEF","hint":"XYZ"}"#;
        let detail = r#"{"status":332,"status_text":"My Text","headers":{"X-Header":"str"}}"#;
        check(
            "PGRST",
            message,
            Some(detail),
            true,
            &expect![[r#"
            332 My Text
            {"code":"123","message":"ABC","details":"DEF","hint":"XYZ"}
            Some("proxy-status"): "PostgREST; error=123"
            Some("x-header"): "str""#]],
        );
        check(
            "PT402",
            "Payment Required",
            Some("Quota exceeded"),
            true,
            &expect![[r#"
            402 Payment Required
            {"code":"PT402","message":"Payment Required","details":"Quota exceeded","hint":null}
            Some("proxy-status"): "PostgREST; error=PT402""#]],
        );
    }

    #[test]
    fn reports_malformed_raise_statements() {
        check(
            "PGRST",
            "{}",
            None,
            true,
            &expect![[r#"
                500
                {"code":"PGRST121","message":"Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error","details":"Invalid JSON value for MESSAGE: '{}'","hint":"MESSAGE must be a JSON object with obligatory keys: 'code', 'message' and optional keys: 'details', 'hint'."}
                Some("proxy-status"): "PostgREST; error=PGRST121""#]],
        );
        check(
            "PGRST",
            r#"{"code":"1","message":"2"}"#,
            None,
            true,
            &expect![[r#"
                500
                {"code":"PGRST121","message":"Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error","details":"DETAIL is missing in the RAISE statement","hint":"DETAIL must be a JSON object with obligatory keys: 'status', 'headers' and optional key: 'status_text'."}
                Some("proxy-status"): "PostgREST; error=PGRST121""#]],
        );
        check(
            "PGRST",
            r#"{"code":"1","message":"2"}"#,
            Some(r#"{"status":200}"#),
            true,
            &expect![[r#"
                500
                {"code":"PGRST121","message":"Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error","details":"Invalid JSON value for DETAIL: '{\"status\":200}'","hint":"DETAIL must be a JSON object with obligatory keys: 'status', 'headers' and optional key: 'status_text'."}
                Some("proxy-status"): "PostgREST; error=PGRST121""#]],
        );
    }
}
