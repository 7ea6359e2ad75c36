//! Statements, their results, and notifications, as plain values.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::row::Rows;

/// One SQL statement with its parameters. The same `sql` is prepared once per connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The text, with `$1`, `$2`, … for the parameters.
    pub sql: Arc<str>,
    /// The parameters in PostgreSQL's text format; `None` is NULL. Their types are inferred.
    pub parameters: Vec<Option<Bytes>>,
    /// Whether to request the types of the columns. It must always be the same for the same `sql`.
    pub described: bool,
}

impl Statement {
    /// A statement with parameters.
    pub fn new(sql: impl Into<Arc<str>>, parameters: Vec<Option<Bytes>>) -> Self {
        Self { sql: sql.into(), parameters, described: false }
    }

    /// The same statement, whose rows have [types](crate::Rows::types). They need no message once the statement is
    /// prepared, since PostgreSQL rejects a prepared statement whose types have changed (`0A000`).
    #[must_use]
    #[inline]
    pub fn described(self) -> Self {
        Self { described: true, ..self }
    }
}

impl From<&str> for Statement {
    #[inline]
    fn from(sql: &str) -> Self {
        Self::new(sql, Vec::new())
    }
}

/// The rows of each statement of an exchange, in order.
pub type Results = SmallVec<[Rows; 3]>;

/// A `NOTIFY` (<https://www.postgresql.org/docs/current/sql-notify.html>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The channel.
    pub channel: String,
    /// The payload, empty when there is none.
    pub payload: String,
}
