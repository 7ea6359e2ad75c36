//! Errors of connections and statements.

use std::fmt;
use std::io;
use std::time::Duration;

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::ErrorFields;

/// A statement or its connection failed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// PostgreSQL returned an error.
    #[error("{0}")]
    Server(Box<ServerError>),
    /// No connection could be made.
    #[error(transparent)]
    Connect(Box<ConnectError>),
    /// The connection broke.
    #[error("the connection to PostgreSQL broke: {0}")]
    Io(#[from] io::Error),
    /// The connection was closed before the statement's result arrived.
    #[error("the connection to PostgreSQL was closed")]
    Closed,
    /// The transaction is committed, but the wait for the synchronous standbys was cancelled, so it may be missing on
    /// all of them.
    #[error("committed, but maybe not on a synchronous standby")]
    Unreplicated,
    /// The response timed out after this time; the connection was closed.
    #[error("PostgreSQL has not answered for {} s", .0.as_secs())]
    Stalled(Duration),
    /// PostgreSQL sent an unexpected message.
    #[error("unexpected message from PostgreSQL: {0}")]
    Protocol(String),
}

/// No connection could be made: connection refused, unknown host name, TLS failed, login rejected, timed out, ….
///
/// It is a separate type, so that PostgreSQL's errors during the startup handshake (with any SQLSTATE: `28000`,
/// `53300`, `57P03`) cannot be mistaken for those of a statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot connect to {address}: {reason}")]
pub struct ConnectError {
    /// The server's address.
    pub address: String,
    /// The reason.
    pub reason: String,
    /// SQLSTATE, if PostgreSQL rejected the login.
    pub sqlstate: Option<String>,
}

impl ConnectError {
    /// Whether a connection limit is reached: of the server, the database or the role.
    pub fn is_full(&self) -> bool {
        self.sqlstate.as_deref() == Some("53300")
    }

    /// Whether the login is rejected for a reason that only an operator can change: role, password, database or
    /// `pg_hba.conf`.
    pub fn is_refusal(&self) -> bool {
        matches!(self.sqlstate.as_deref(), Some("28P01" | "28000" | "3D000"))
    }
}

impl From<ConnectError> for DatabaseError {
    fn from(error: ConnectError) -> Self {
        Self::Connect(Box::new(error))
    }
}

impl DatabaseError {
    /// PostgreSQL's error, if it is one.
    #[inline]
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Server(error) => Some(error),
            _ => None,
        }
    }

    /// SQLSTATE, if the error is PostgreSQL's.
    #[inline]
    pub fn code(&self) -> Option<&str> {
        self.server().map(|error| error.code.as_str())
    }

    /// Whether the session's caches are stale, see [`ServerError::stale`]. The same statement may succeed in a new
    /// session.
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.server().is_some_and(|error| error.stale)
    }

    /// Whether a prepared statement failed before it ran. The same text may succeed when it is parsed anew.
    #[inline]
    pub fn is_of_prepared(&self) -> bool {
        self.server().is_some_and(|error| error.stage == Stage::Binding { prepared: true })
    }

    /// Whether the prepared statement does not exist any more, because a function has run `DEALLOCATE`. The code
    /// alone is no proof, since any function can raise it; but only PostgreSQL fails a statement before it is bound.
    #[inline]
    pub fn is_of_deallocated(&self) -> bool {
        self.is_of_prepared() && self.code() == Some("26000")
    }

    /// Whether the TCP user timeout has expired. Then the server is unreachable for other connections too.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::TimedOut)
    }

    /// Whether the connection broke, or PostgreSQL closed it, before the statement's result arrived. A retry on
    /// another connection may succeed.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Io(_) => !self.is_unreachable(),
            Self::Closed => true,
            Self::Server(_) => self.is_fatal(),
            Self::Connect(_) | Self::Unreplicated | Self::Stalled(_) | Self::Protocol(_) => false,
        }
    }

    /// Whether the connection cannot be used any more.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Server(error) => matches!(error.severity.as_str(), "FATAL" | "PANIC"),
            Self::Unreplicated => false,
            Self::Connect(_) | Self::Io(_) | Self::Closed | Self::Stalled(_) | Self::Protocol(_) => true,
        }
    }

    /// A copy, for another exchange that was pending on the broken connection.
    #[must_use]
    pub fn copy(&self) -> Self {
        match self {
            Self::Server(error) => Self::Server(error.clone()),
            Self::Connect(error) => Self::Connect(error.clone()),
            Self::Io(error) => Self::Io(io::Error::new(error.kind(), error.to_string())),
            Self::Closed => Self::Closed,
            Self::Stalled(silence) => Self::Stalled(*silence),
            Self::Unreplicated => Self::Unreplicated,
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
    /// The detail message.
    pub detail: Option<String>,
    /// The hint.
    pub hint: Option<String>,
    /// The context: the call stack.
    pub context: Option<String>,
    /// The schema of the object that the error is about.
    pub schema: Option<String>,
    /// The table that the error is about.
    pub table: Option<String>,
    /// The column that the error is about.
    pub column: Option<String>,
    /// The constraint that was violated.
    pub constraint: Option<String>,
    /// Whether the session's caches are stale: a cached plan whose result type has changed, the OID of a type that
    /// was dropped and created again. PostgreSQL reports this under codes with other meanings too, so the C function
    /// that raised the error decides. The function's name, source file and line are not stored.
    pub stale: bool,
    /// Whether PostgreSQL rejected a `SET ROLE`.
    pub refuses_role: bool,
    /// The position in the statement's text, in characters from 1.
    pub position: Option<usize>,
    /// The stage of its statement.
    pub stage: Stage,
}

/// The stage in which a statement failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// The statement may have run, or the error is not a statement's.
    #[default]
    Running,
    /// The statement was not parsed or not bound to its parameters, so it has had no effect.
    Binding {
        /// Whether an earlier exchange prepared it. The schema may have changed since then, and the same text may
        /// succeed when it is parsed anew.
        prepared: bool,
    },
}

impl ServerError {
    /// Message, detail, context and hint on one line.
    pub fn one_line(&self) -> String {
        let mut line = self.message.replace('\n', " ");
        for (name, text) in [("", &self.detail), ("in ", &self.context), ("hint: ", &self.hint)] {
            if let Some(text) = text {
                line.push_str("; ");
                line.push_str(name);
                line.push_str(&text.replace('\n', " "));
            }
        }
        line
    }

    /// Parses the fields of an ErrorResponse.
    pub(crate) fn parse(fields: &mut ErrorFields<'_>) -> io::Result<Self> {
        let mut error = Self::default();
        let mut localised_severity = String::new();
        let mut routine = String::new();
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
                b'P' => error.position = value.parse().ok(),
                b'R' => routine = value,
                _ => {}
            }
        }
        if error.severity.is_empty() {
            error.severity = localised_severity;
        }
        error.refuses_role =
            error.code == "42501" && matches!(routine.as_str(), "call_string_check_hook" | "check_role");
        error.stale = is_stale(&error.code, &routine, &error.message);
        Ok(error)
    }
}

/// The C functions that raise errors which SQL defines: those of PL/pgSQL, PL/Perl, PL/Python and PL/Tcl, and those
/// of `dblink` and `postgres_fdw`, which repeat another server's errors.
const RAISING: [&str; 8] = [
    "exec_stmt_raise",
    "do_util_elog",
    "plperl_call_perl_func",
    "PLy_output",
    "PLy_elog_impl",
    "pltcl_elog",
    "dblink_res_error",
    "pgfdw_report_error",
];

/// See [`ServerError::stale`]. Messages of internal errors (`XX000`) are never localised. SQL can raise the same
/// messages, but not with the same function.
#[inline]
fn is_stale(code: &str, routine: &str, message: &str) -> bool {
    match code {
        "0A000" => routine == "RevalidateCachedQuery",
        "42704" => routine == "lookup_type_cache",
        "42804" => routine == "ExecEvalParamExtern" || routine.starts_with("plpgsql_param_"),
        "XX000" => {
            !RAISING.contains(&routine)
                && (message.starts_with("cache lookup failed for ")
                    || message.starts_with("could not open relation with OID "))
        }
        _ => false,
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (SQLSTATE {})", self.severity, self.message, self.code)
    }
}
