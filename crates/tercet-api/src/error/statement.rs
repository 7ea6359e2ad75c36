//! Why a statement failed, before the error is mapped to PostgREST's.

use tercet_postgres::{DatabaseError, ServerError, Stage};

/// A statement, or the connection it needed, failed.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// PostgreSQL refused it, or the connection broke or could not be made.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// No connection became free in time.
    #[error("no connection to PostgreSQL became free in time")]
    PoolTimeout,
    /// The rows are not of the types that the statement was made for.
    #[error("the rows have other types than the schema cache says")]
    ColumnTypes,
}

impl StatementError {
    /// PostgreSQL's own error, when it is one.
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Database(error) => error.server(),
            Self::PoolTimeout | Self::ColumnTypes => None,
        }
    }

    /// The five characters of SQLSTATE, when PostgreSQL said them.
    pub fn code(&self) -> Option<&str> {
        self.server().map(|error| error.code.as_str())
    }

    /// Whether the statement, or what was prepared of it, does not fit the schema: a syntax error or access rule
    /// violation (class 42) other than a lack of privileges, or a result whose type has changed (`0A000`).
    pub fn is_misfit(&self) -> bool {
        matches!(self, Self::ColumnTypes)
            || self.code().is_some_and(|code| code == "0A000" || code.starts_with("42") && code != "42501")
    }

    /// Whether PostgreSQL could not make sense of the statement's names and types.
    pub fn is_unbound_misfit(&self) -> bool {
        self.is_misfit() && self.server().is_some_and(|error| error.stage != Stage::Running)
    }

    /// See [`DatabaseError::is_stale`].
    pub fn is_stale(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_stale())
    }

    /// See [`DatabaseError::is_of_prepared`].
    pub fn is_of_prepared(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_of_prepared())
    }

    /// See [`DatabaseError::is_of_deallocated`].
    pub fn is_of_deallocated(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_of_deallocated())
    }

    /// Whether the connection broke before the statement was answered, or has lost what was prepared on it.
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Database(error) if error.is_lost() || error.is_of_deallocated())
    }
}
