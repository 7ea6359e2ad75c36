//! PostgreSQL's wire protocol, as far as the data API needs it: connect, authenticate, run statements in
//! the extended protocol with many requests in flight on one connection, cancel, listen.
//!
//! It knows nothing of HTTP, roles or the schema. Values travel as text with unspecified types, so that
//! PostgreSQL infers them (<https://www.postgresql.org/docs/current/protocol.html>).

mod cancel;
mod connection;
mod driver;
mod error;
mod patience;
mod prepared;
mod row;
mod service;
mod startup;
mod statement;
mod stream;
mod target;
mod tls;

pub use self::connection::{Connection, Exchange};
pub use self::error::{ConnectError, DatabaseError, ServerError, Stage};
pub use self::row::{Row, Rows, Types};
pub use self::statement::{Notification, Results, Statement};
pub use self::target::{Host, SessionAttributes, SslMode, Target, TargetError};
