//! Everything that can go wrong for a client, in PostgREST's words: code, status, message, details, hint, headers.
//!
//! Refuses to know how a response is sent, and what of PostgreSQL's own messages may be shown beyond what it sent for clients.

pub mod database;
pub mod request;
pub mod schema;
pub mod statement;
pub mod suggestion;
pub mod token;

use http::header::{HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::Value;

pub use database::DatabaseFailure;
pub use request::{RangeError, RequestError};
pub use schema::{RelationshipCandidate, SchemaError};
pub use statement::StatementError;
pub use token::TokenError;

/// How much an error says to clients (`client-error-verbosity`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Code, message, details and hint.
    #[default]
    Verbose,
    /// Code and message only.
    Minimal,
}

/// A request that failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApiError {
    /// The request itself is wrong (PGRST1xx).
    #[error(transparent)]
    Request(#[from] RequestError),
    /// What it names is not in the schema cache (PGRST2xx).
    #[error(transparent)]
    Schema(Box<SchemaError>),
    /// Its token is missing or wrong (PGRST3xx).
    #[error(transparent)]
    Token(#[from] TokenError),
    /// PostgreSQL refused (its SQLSTATE, or what RAISE asked for).
    #[error(transparent)]
    Database(#[from] DatabaseFailure),
    /// No connection to PostgreSQL can be made; the text says why and never holds a password.
    #[error("Database connection error. Retrying the connection.")]
    Connection(Option<String>),
    /// The connection broke while the request was under way.
    #[error("Database client error. Retrying the connection.")]
    ConnectionLost(Option<String>),
    /// The schema cache was never loaded.
    #[error("Could not query the database for the schema cache. Retrying.")]
    NoSchemaCache,
    /// We have failed: the log says how.
    #[error("The request could not be answered because of an error in tercet")]
    Internal,
    /// Every connection is busy and stayed so for the whole wait.
    #[error("Timed out acquiring connection from connection pool.")]
    PoolTimeout,
    /// Committed, but the wait for the synchronous standbys was broken off.
    #[error("Committed, but the wait for a synchronous standby was broken off")]
    Unreplicated,
}

impl From<SchemaError> for ApiError {
    fn from(error: SchemaError) -> Self {
        Self::Schema(Box::new(error))
    }
}

/// The JSON object a client gets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorBody {
    /// PostgREST's code, or a SQLSTATE.
    pub code: String,
    /// What went wrong.
    pub message: String,
    /// More about it; `null` when there is no more. Left out under [`Verbosity::Minimal`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// What to do about it; `null` when nothing comes to mind. Left out under [`Verbosity::Minimal`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Value>,
}

impl ApiError {
    /// PostgREST's code, or PostgreSQL's SQLSTATE.
    pub fn code(&self) -> String {
        match self {
            Self::Request(error) => error.code().into(),
            Self::Schema(error) => error.code().into(),
            Self::Token(error) => error.code().into(),
            Self::Database(error) => error.code(),
            Self::Connection(_) => "PGRST000".into(),
            Self::ConnectionLost(_) => "PGRST001".into(),
            Self::NoSchemaCache => "PGRST002".into(),
            Self::PoolTimeout => "PGRST003".into(),
            Self::Unreplicated => "TCT01".into(),
            Self::Internal => "TCT04".into(),
        }
    }

    /// Status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Request(error) => error.status(),
            Self::Schema(error) => error.status(),
            Self::Token(error) => error.status(),
            Self::Database(error) => error.status(),
            Self::Connection(_) | Self::ConnectionLost(_) | Self::NoSchemaCache => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::PoolTimeout | Self::Unreplicated => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Reason phrase the database chose instead of the status' own.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Database(error) => error.reason(),
            _ => None,
        }
    }

    /// The same error, or PGRST112 where SQL asked for a response that HTTP has no way to write.
    #[must_use]
    pub fn or_unsendable(self) -> Self {
        match &self {
            Self::Database(error) => {
                error.unsendable().map_or(self, |reason| RequestError::Unsendable(reason).into())
            }
            _ => self,
        }
    }

    /// What of a response SQL got wrong: somebody who can change that has to know.
    pub fn fault_of_sql(&self) -> Option<String> {
        match self {
            Self::Request(RequestError::Unsendable(reason)) => Some(reason.to_string()),
            Self::Request(
                error @ (RequestError::ResponseHeadersSetting | RequestError::ResponseStatusSetting),
            ) => Some(error.to_string()),
            _ => None,
        }
    }

    /// Headers of the response beyond its content type: `Proxy-Status`, `WWW-Authenticate`, what RAISE asked for.
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(&format!("PostgREST; error={}", self.code())) {
            headers.insert(HeaderName::from_static("proxy-status"), value);
        }
        match self {
            Self::Token(error) => {
                if let Some(challenge) = error.challenge().and_then(|text| HeaderValue::from_str(&text).ok())
                {
                    headers.insert(WWW_AUTHENTICATE, challenge);
                }
            }
            Self::Database(error) => error.add_headers(&mut headers),
            _ => {}
        }
        headers
    }

    /// What a client gets to read.
    pub fn body(&self, verbosity: Verbosity) -> ErrorBody {
        let (details, hint) = match self {
            Self::Request(error) => (error.details().map(Value::from), error.hint().map(Value::from)),
            Self::Schema(error) => (error.details(), error.hint().map(Value::from)),
            Self::Token(error) => (error.details().map(Value::from), None),
            Self::Database(error) => (error.details().map(Value::from), error.hint().map(Value::from)),
            Self::Connection(details) | Self::ConnectionLost(details) => {
                (details.clone().map(Value::from), None)
            }
            Self::Unreplicated => (
                Some("The database has committed the transaction, but it may not be on any standby yet: it is lost if the primary is lost before it is copied.".into()),
                Some("Do not repeat the request unread: look first whether its effect is there.".into()),
            ),
            Self::NoSchemaCache | Self::PoolTimeout | Self::Internal => (None, None),
        };
        let message = match self {
            Self::Database(error) => error.message(),
            other => other.to_string(),
        };
        let (details, hint) = match verbosity {
            Verbosity::Verbose => (Some(details.unwrap_or_default()), Some(hint.unwrap_or_default())),
            Verbosity::Minimal => (None, None),
        };
        ErrorBody { code: self.code(), message, details, hint }
    }

    /// [`ApiError::body`] as JSON text.
    pub fn json(&self, verbosity: Verbosity) -> Vec<u8> {
        serde_json::to_vec(&self.body(verbosity)).expect("strings and JSON values always serialise")
    }
}
