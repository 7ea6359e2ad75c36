//! PostgreSQL's client side: connection strings, TLS, login, the wire protocol; quoting, `pg_hba.conf`, the SQL that
//! creates roles and databases.
//!
//! [`Connection`] runs statements by the extended query protocol with many transactions in flight, cancels and
//! listens. Parameters are sent as text with unspecified types, so that PostgreSQL infers them
//! (<https://www.postgresql.org/docs/current/protocol.html>). The crate knows nothing of HTTP, of tercet's tiers or
//! of the databases' content. It does not read the environment, and starts no thread and no process.

mod cancel;
mod connection;
mod connection_string;
mod definition;
mod driver;
mod error;
pub mod hba;
mod prepared;
pub mod quote;
mod row;
mod scram;
mod service;
mod startup;
mod statement;
mod stream;
mod target;
mod tls;
mod user_timeout;

pub use self::connection::{Connection, Exchange};
pub use self::connection_string::{TargetError, uri};
pub use self::definition::{Database, Others, Role};
pub use self::error::{ConnectError, DatabaseError, ServerError, Stage};
pub use self::row::{Row, Rows, Types};
pub use self::scram::Verifier;
pub use self::statement::{Notification, Results, Statement};
pub use self::target::{Host, SessionAttributes, SslMode, Target};
