//! What can go wrong between this process and PostgreSQL.

use std::fmt;
use std::io;
use std::time::Duration;

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::ErrorFields;

/// A statement, or the connection it needed, failed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// PostgreSQL said no.
    #[error("{0}")]
    Server(Box<ServerError>),
    /// No connection could be made.
    #[error(transparent)]
    Connect(Box<ConnectError>),
    /// The connection broke.
    #[error("the connection to PostgreSQL broke: {0}")]
    Io(#[from] io::Error),
    /// The connection was closed before the statement was answered.
    #[error("the connection to PostgreSQL was closed")]
    Closed,
    /// Committed, but the wait for the synchronous standbys was broken off: it may be on none of them.
    #[error("committed, but maybe not on a synchronous standby")]
    Unreplicated,
    /// PostgreSQL said nothing for this long, though it was asked something; the connection was given up.
    #[error("PostgreSQL has not answered for {} s", .0.as_secs())]
    Stalled(Duration),
    /// PostgreSQL sent something that was not expected here.
    #[error("unexpected message from PostgreSQL: {0}")]
    Protocol(String),
}

/// No connection could be made: refused, unresolvable, TLS refused, not let in, nothing said in time, ….
///
/// A type of its own, so that what PostgreSQL says while connecting (whatever its SQLSTATE: `28000`, `53300`, `57P03`)
/// cannot be taken for what it says of a statement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot connect to {address}: {reason}")]
pub struct ConnectError {
    /// Where to.
    pub address: String,
    /// Why not.
    pub reason: String,
    /// SQLSTATE, where PostgreSQL refused the login.
    pub sqlstate: Option<String>,
}

impl ConnectError {
    /// Whether PostgreSQL has no connection left, for this role, this database or at all.
    pub fn is_full(&self) -> bool {
        self.sqlstate.as_deref() == Some("53300")
    }

    /// Whether the login is refused in a way that only a person can change: role, password, database or `pg_hba.conf`.
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
    /// PostgreSQL's own error, when it is one.
    #[inline]
    pub fn server(&self) -> Option<&ServerError> {
        match self {
            Self::Server(error) => Some(error),
            _ => None,
        }
    }

    /// The five characters of SQLSTATE, when PostgreSQL said them.
    #[inline]
    pub fn code(&self) -> Option<&str> {
        self.server().map(|error| error.code.as_str())
    }

    /// Whether the session remembers what is not there any more, see [`ServerError::stale`]. The same statement may
    /// succeed in a new session.
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.server().is_some_and(|error| error.stale)
    }

    /// Whether the statement failed for what had been prepared of it, before it did anything. The same text may succeed
    /// when it is parsed anew.
    #[inline]
    pub fn is_of_prepared(&self) -> bool {
        self.server().is_some_and(|error| error.stage == Stage::Binding { prepared: true })
    }

    /// Whether what had been prepared of the statement is gone: a function has run `DEALLOCATE`. The code alone says
    /// nothing, any function can raise it; that the statement was never bound is what only PostgreSQL says.
    #[inline]
    pub fn is_of_deallocated(&self) -> bool {
        self.is_of_prepared() && self.code() == Some("26000")
    }

    /// Whether the peer has acknowledged nothing for too long: it cannot be reached, by other connections neither.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::TimedOut)
    }

    /// Whether the connection broke, or was closed by PostgreSQL, before the statement was answered. Another may go on.
    pub fn is_lost(&self) -> bool {
        match self {
            Self::Io(_) => !self.is_unreachable(),
            Self::Closed => true,
            Self::Server(_) => self.is_fatal(),
            Self::Connect(_) | Self::Unreplicated | Self::Stalled(_) | Self::Protocol(_) => false,
        }
    }

    /// Whether the connection is of no use any more.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Server(error) => matches!(error.severity.as_str(), "FATAL" | "PANIC"),
            Self::Unreplicated => false,
            Self::Connect(_) | Self::Io(_) | Self::Closed | Self::Stalled(_) | Self::Protocol(_) => true,
        }
    }

    /// The same error for every exchange that was pending on a broken connection.
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
    /// Whether the session remembers what is not there any more: a plan whose result has another type now, the number
    /// of a type that was dropped and made again. PostgreSQL reports it under codes that mean other things as well, so
    /// the C function that raised it decides. Its name is not kept, nor are source file and line.
    pub stale: bool,
    /// Whether PostgreSQL refused to let the session become a role.
    pub refuses_role: bool,
    /// The character of the statement's text that it is about, counted from 1.
    pub position: Option<usize>,
    /// How far its statement had come.
    pub stage: Stage,
}

/// How far a statement had come when it failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// It may have run, or what failed is no statement.
    #[default]
    Running,
    /// It was not parsed yet, or not bound to its parameters: it has done nothing.
    Binding {
        /// Whether it had been prepared by an earlier exchange: then the schema may have changed since, and the same
        /// text may succeed when it is parsed anew.
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

    /// Reads the fields of an ErrorResponse.
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

/// The C functions that raise what SQL tells them to: in PL/pgSQL, PL/Perl, PL/Python and PL/Tcl, and what another
/// server has said to `dblink` and `postgres_fdw`.
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

/// See [`ServerError::stale`]. Messages of internal errors (`XX000`) are never localised; SQL can imitate them, but not
/// the function.
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
