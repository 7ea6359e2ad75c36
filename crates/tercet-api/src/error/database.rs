//! What PostgreSQL refused: SQLSTATE → status, and errors whose whole response SQL decides (`RAISE SQLSTATE 'PGRST'`, `'PT402'`).

use std::collections::BTreeMap;

use http::header::{HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

/// An error PostgreSQL sent
/// ([fields](https://www.postgresql.org/docs/current/protocol-error-fields.html), [codes](https://www.postgresql.org/docs/current/errcodes-appendix.html)).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct DatabaseFailure {
    /// Five characters.
    pub sqlstate: String,
    /// The primary message.
    pub message: String,
    /// DETAIL
    pub detail: Option<String>,
    /// HINT
    pub hint: Option<String>,
    /// Whether the request came with a token: what anonymous clients may not do is a 401 for them.
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
    headers: BTreeMap<String, String>,
}

/// What became of `RAISE SQLSTATE 'PGRST'`.
enum Raised {
    /// Both parts are as they must be.
    Response(RaisedMessage, RaisedDetail),
    /// One is not: details and hint of the error that says so.
    Malformed(String, &'static str),
}

impl DatabaseFailure {
    /// The SQLSTATE, or the code SQL chose.
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
            None => self.hint.clone(),
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
            // pg-safeupdate: the client forgot its filter
            "21000" if message.ends_with("requires a WHERE clause") => StatusCode::BAD_REQUEST,
            // the role in the token does not exist
            "22023" if message.starts_with("role") && message.ends_with("does not exist") => {
                StatusCode::UNAUTHORIZED
            }
            // the client asked for XML of rows that cannot be aggregated into it
            "42883" if message.starts_with("function xmlagg(") => StatusCode::NOT_ACCEPTABLE,
            "42883" | "42P01" => StatusCode::NOT_FOUND,
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

    /// Reason phrase of the status, where SQL chose one.
    pub(super) fn reason(&self) -> Option<String> {
        match self.raised() {
            Some(Raised::Response(_, detail)) => detail.status_text,
            Some(Raised::Malformed(..)) => None,
            None => self.sqlstate.starts_with("PT").then(|| self.message.clone()),
        }
    }

    pub(super) fn add_headers(&self, headers: &mut HeaderMap) {
        if let Some(Raised::Response(_, detail)) = self.raised() {
            for (name, value) in detail.headers {
                if let (Ok(name), Ok(value)) =
                    (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value))
                {
                    headers.append(name, value);
                }
            }
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
