//! Events of the data API.

use std::fmt;

use serde::Serialize;

use super::Level;

/// An event of the data API.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant's Display says what it means")]
pub enum ApiEvent<'a> {
    DatabaseConnected {
        address: &'a str,
        version: &'a str,
    },
    DatabaseLost {
        reason: &'a str,
        retry_seconds: f64,
    },
    SchemaCacheLoaded {
        relations: usize,
        functions: usize,
        milliseconds: f64,
    },
    SchemaCacheFailed {
        reason: &'a str,
    },
    NotListening {
        address: &'a str,
    },
    RoleRefused {
        reason: &'a str,
    },
    /// The keys of the identity provider are new, or other ones than before.
    JwksFetched {
        keys: usize,
        fresh_seconds: u64,
    },
    JwksFetchFailed {
        reason: &'a str,
        retry_seconds: f64,
    },
    /// A restart while the provider is down would be without its keys.
    JwksCacheWriteFailed {
        file: &'a str,
        reason: &'a str,
    },
    Query {
        sql: &'a str,
    },
    /// A request took at least as long as the threshold for slow requests. The SQL has no values.
    SlowRequest {
        request_id: &'a str,
        method: &'a str,
        target: &'a str,
        status: u16,
        role: Option<&'a str>,
        seconds: f64,
        parse_seconds: f64,
        plan_seconds: f64,
        pool_seconds: f64,
        database_seconds: f64,
        rows: u32,
        sql: Option<&'a str>,
    },
    /// SQL asked for a response that cannot be sent; the client got PGRST112.
    ResponseUnsendable {
        reason: &'a str,
    },
    /// A request panicked; its client got 500, other requests continue.
    RequestPanicked {
        method: &'a str,
        target: &'a str,
        reason: &'a str,
    },
    /// A client sent something that is not an HTTP/1.1 request.
    RequestRefused {
        client: &'a str,
        status: u16,
        reason: &'a str,
    },
}

impl ApiEvent<'_> {
    pub(super) fn level(&self) -> Level {
        match self {
            Self::DatabaseConnected { .. }
            | Self::SchemaCacheLoaded { .. }
            | Self::JwksFetched { .. }
            | Self::Query { .. } => Level::Info,
            Self::NotListening { .. }
            | Self::RequestRefused { .. }
            | Self::SlowRequest { .. }
            | Self::JwksCacheWriteFailed { .. } => Level::Warn,
            Self::DatabaseLost { .. }
            | Self::SchemaCacheFailed { .. }
            | Self::RoleRefused { .. }
            | Self::JwksFetchFailed { .. }
            | Self::ResponseUnsendable { .. }
            | Self::RequestPanicked { .. } => Level::Error,
        }
    }
}

/// The most bytes of a statement in a message; the field has more of it.
const SQL_IN_MESSAGE: usize = 500;

impl fmt::Display for ApiEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DatabaseConnected { address, version } => {
                write!(f, "connected to PostgreSQL {version} at {address}")
            }
            Self::DatabaseLost { reason, retry_seconds } => {
                write!(f, "connection to PostgreSQL failed, retry in {retry_seconds:.1} s: {reason}")
            }
            Self::SchemaCacheLoaded { relations, functions, milliseconds } => write!(
                f,
                "schema cache loaded: {relations} relations, {functions} functions, in {milliseconds:.0} ms"
            ),
            Self::Query { sql } => write!(f, "query: {sql}"),
            Self::SlowRequest {
                method, target, seconds, pool_seconds, database_seconds, rows, sql, ..
            } => {
                let milliseconds = |seconds: &f64| seconds * 1000.0;
                write!(
                    f,
                    "slow request: {method} {target} took {:.0} ms, of it {:.0} ms in PostgreSQL and {:.0} ms waiting \
                     for a connection, {rows} rows: {}",
                    milliseconds(seconds),
                    milliseconds(database_seconds),
                    milliseconds(pool_seconds),
                    sql.map_or("no SQL", |sql| &sql[..sql.floor_char_boundary(SQL_IN_MESSAGE)]),
                )
            }
            Self::ResponseUnsendable { reason } => {
                write!(f, "response set by SQL cannot be sent: {reason}")
            }
            Self::RequestPanicked { method, target, reason } => {
                write!(f, "{method} {target} panicked and was answered with status 500: {reason}")
            }
            Self::RequestRefused { client, status, reason } => {
                write!(f, "request from {client} refused with status {status}: {reason}")
            }
            Self::SchemaCacheFailed { reason } => write!(f, "loading the schema cache failed: {reason}"),
            Self::NotListening { address } => {
                write!(f, "{address} is a standby: LISTEN is retried until it is promoted")
            }
            Self::RoleRefused { reason } => f.write_str(reason),
            Self::JwksFetched { keys, fresh_seconds } => {
                write!(
                    f,
                    "JWK set of the identity provider fetched: {keys} usable, fresh for {fresh_seconds} s"
                )
            }
            Self::JwksFetchFailed { reason, retry_seconds } => {
                write!(
                    f,
                    "fetching the JWK set of the identity provider failed, retry in {retry_seconds:.0} s: {reason}"
                )
            }
            Self::JwksCacheWriteFailed { file, reason } => {
                write!(f, "the JWK set of the identity provider cannot be written to {file}: {reason}")
            }
        }
    }
}
