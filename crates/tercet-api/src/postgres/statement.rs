//! What is sent to PostgreSQL and what comes back, as plain values.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

/// One SQL statement with its parameters. The same `sql` is prepared once per connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The text, with `$1`, `$2`, … where the parameters go.
    pub sql: Arc<str>,
    /// The parameters in PostgreSQL's text format; `None` is NULL. Their types are inferred.
    pub parameters: Vec<Option<Bytes>>,
}

impl Statement {
    /// A statement with parameters.
    pub fn new(sql: impl Into<Arc<str>>, parameters: Vec<Option<Bytes>>) -> Self {
        Self { sql: sql.into(), parameters }
    }
}

impl From<&str> for Statement {
    fn from(sql: &str) -> Self {
        Self::new(sql, Vec::new())
    }
}

/// The rows one statement returned.
pub type Rows = Vec<Row>;

/// One row: its columns in PostgreSQL's text format, `None` where NULL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    columns: SmallVec<[Option<Bytes>; 8]>,
}

impl Row {
    /// The column at `index`, counted from 0; `None` when it is NULL or there is no such column.
    pub fn get(&self, index: usize) -> Option<&Bytes> {
        self.columns.get(index).and_then(Option::as_ref)
    }

    /// Like [`Row::get`], as text; `None` also when it is not UTF-8 (it always is: the client encoding says so).
    pub fn text(&self, index: usize) -> Option<&str> {
        self.get(index).and_then(|column| std::str::from_utf8(column).ok())
    }

    pub(super) fn push(&mut self, column: Option<Bytes>) {
        self.columns.push(column);
    }

    /// How many columns the row has.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether the row has no column at all.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }
}

impl FromIterator<Option<Bytes>> for Row {
    fn from_iter<T: IntoIterator<Item = Option<Bytes>>>(columns: T) -> Self {
        Self { columns: columns.into_iter().collect() }
    }
}

/// Rows of each statement of an exchange, in order.
pub type Results = SmallVec<[Rows; 3]>;

/// A `NOTIFY` (<https://www.postgresql.org/docs/current/sql-notify.html>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The channel.
    pub channel: String,
    /// The payload, empty when there is none.
    pub payload: String,
}
