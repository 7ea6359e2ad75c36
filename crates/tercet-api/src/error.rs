//! The errors clients receive, in PostgREST's wording: code, status, message, details, hint, headers.
//!
//! Does not send responses, and passes on no more of a PostgreSQL error than its client-facing fields.

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
pub use tercet_options::api::Verbosity;
pub use token::TokenError;

/// A failed request.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ApiError {
    /// The request is invalid (PGRST1xx).
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A name is not in the schema cache (PGRST2xx).
    #[error(transparent)]
    Schema(Box<SchemaError>),
    /// The token is missing or invalid (PGRST3xx).
    #[error(transparent)]
    Token(#[from] TokenError),
    /// PostgreSQL reported an error (its SQLSTATE, or the response of a RAISE).
    #[error(transparent)]
    Database(#[from] DatabaseFailure),
    /// No connection to PostgreSQL; the text is the reason and never contains a password.
    #[error("Database connection error. Retrying the connection.")]
    Connection(Option<String>),
    /// The connection was lost during the request.
    #[error("Database client error. Retrying the connection.")]
    ConnectionLost(Option<String>),
    /// The schema cache has not been loaded yet.
    #[error("Could not query the database for the schema cache. Retrying.")]
    NoSchemaCache,
    /// A bug in tercet; the log has the details.
    #[error("The request could not be answered because of an error in tercet")]
    Internal,
    /// No connection of the pool became free within the acquisition timeout.
    #[error("Timed out acquiring connection from connection pool.")]
    PoolTimeout,
    /// Committed, but the wait for the synchronous standbys was cancelled.
    #[error("Committed, but the wait for a synchronous standby was broken off")]
    Unreplicated,
}

impl From<SchemaError> for ApiError {
    fn from(error: SchemaError) -> Self {
        Self::Schema(Box::new(error))
    }
}

/// The JSON body of an error response.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorBody {
    /// PostgREST's error code, or a SQLSTATE.
    pub code: String,
    /// The message.
    pub message: String,
    /// Details, or `null`. Omitted under [`Verbosity::Minimal`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
    /// A hint, or `null`. Omitted under [`Verbosity::Minimal`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Value>,
}

impl ApiError {
    /// PostgREST's error code, or a SQLSTATE.
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

    /// The response status.
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

    /// The reason phrase set by SQL, if any.
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Database(error) => error.reason(),
            _ => None,
        }
    }

    /// The same error; PGRST112 if SQL asked for a response that is not valid HTTP.
    #[must_use]
    pub fn or_invalid_response(self) -> Self {
        match &self {
            Self::Database(error) => {
                error.invalid_response().map_or(self, |reason| RequestError::InvalidResponse(reason).into())
            }
            _ => self,
        }
    }

    /// Why the response set by SQL is invalid, for the log.
    pub fn invalid_response_reason(&self) -> Option<String> {
        match self {
            Self::Request(RequestError::InvalidResponse(reason)) => Some(reason.to_string()),
            Self::Request(
                error @ (RequestError::ResponseHeadersSetting | RequestError::ResponseStatusSetting),
            ) => Some(error.to_string()),
            _ => None,
        }
    }

    /// The response headers besides the content type: `Proxy-Status`, `WWW-Authenticate`, those set by RAISE.
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

    /// The body of the error response.
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
                Some("The database has committed the transaction, but it may not be on any standby yet: it is lost if the primary fails before it is replicated.".into()),
                Some("Before repeating the request, check whether it took effect.".into()),
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

    /// The body of the error response, as JSON text.
    pub fn json(&self, verbosity: Verbosity) -> Vec<u8> {
        serde_json::to_vec(&self.body(verbosity)).expect("strings and JSON values always serialise")
    }
}
