//! What can go wrong between this process and PostgreSQL.

use std::fmt;
use std::io;

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::ErrorFields;

/// A statement, or the connection it needed, failed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// PostgreSQL said no.
    #[error("{0}")]
    Server(Box<ServerError>),
    /// No connection could be made: refused, unresolvable, TLS refused, ….
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// Where to.
        address: String,
        /// Why not.
        reason: String,
    },
    /// The connection broke.
    #[error("the connection to PostgreSQL broke: {0}")]
    Io(#[from] io::Error),
    /// The connection was closed before the statement was answered.
    #[error("the connection to PostgreSQL was closed")]
    Closed,
    /// No connection became free in time.
    #[error("no connection to PostgreSQL became free in time")]
    Timeout,
    /// PostgreSQL sent something that was not expected here.
    #[error("unexpected message from PostgreSQL: {0}")]
    Protocol(String),
}

impl DatabaseError {
    /// PostgreSQL's own error, when it is one.
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Server(error) => Some(error),
            _ => None,
        }
    }

    /// The five characters of SQLSTATE, when PostgreSQL said them.
    pub fn code(&self) -> Option<&str> {
        self.server().map(|error| error.code.as_str())
    }

    /// Whether the statement, or what was prepared of it, does not fit the schema: a syntax error or access rule
    /// violation (class 42) other than a lack of privileges, or a result whose type has changed (`0A000`).
    pub fn is_misfit(&self) -> bool {
        self.code().is_some_and(|code| code == "0A000" || code.starts_with("42") && code != "42501")
    }

    /// Whether the connection is of no use any more.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Server(error) => matches!(error.severity.as_str(), "FATAL" | "PANIC"),
            Self::Timeout => false,
            Self::Connect { .. } | Self::Io(_) | Self::Closed | Self::Protocol(_) => true,
        }
    }

    /// The same error for everybody who waited on a broken connection.
    pub(crate) fn copy(&self) -> Self {
        match self {
            Self::Server(error) => Self::Server(error.clone()),
            Self::Connect { address, reason } => {
                Self::Connect { address: address.clone(), reason: reason.clone() }
            }
            Self::Io(error) => Self::Io(io::Error::new(error.kind(), error.to_string())),
            Self::Closed => Self::Closed,
            Self::Timeout => Self::Timeout,
            Self::Protocol(reason) => Self::Protocol(reason.clone()),
        }
    }
}

/// An ErrorResponse
/// (<https://www.postgresql.org/docs/current/protocol-error-fields.html>).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// `ERROR`, `FATAL` or `PANIC`, never localised.
    pub severity: String,
    /// SQLSTATE (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
    pub code: String,
    /// The primary message.
    pub message: String,
    /// More about the problem.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where in the call stack.
    pub context: Option<String>,
    /// The schema of the object at fault.
    pub schema: Option<String>,
    /// The table at fault.
    pub table: Option<String>,
    /// The column at fault.
    pub column: Option<String>,
    /// The constraint that was violated.
    pub constraint: Option<String>,
}

impl ServerError {
    /// Reads the fields of an ErrorResponse.
    pub(super) fn parse(fields: &mut ErrorFields<'_>) -> io::Result<Self> {
        let mut error = Self::default();
        let mut localised_severity = String::new();
        while let Some(field) = fields.next()? {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'S' => localised_severity = value,
                b'V' => error.severity = value,
                b'C' => error.code = value,
                b'M' => error.message = value,
                b'D' => error.detail = Some(value),
                b'H' => error.hint = Some(value),
                b'W' => error.context = Some(value),
                b's' => error.schema = Some(value),
                b't' => error.table = Some(value),
                b'c' => error.column = Some(value),
                b'n' => error.constraint = Some(value),
                _ => {}
            }
        }
        if error.severity.is_empty() {
            error.severity = localised_severity;
        }
        Ok(error)
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (SQLSTATE {})", self.severity, self.message, self.code)
    }
}
