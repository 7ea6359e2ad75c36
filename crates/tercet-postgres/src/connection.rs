//! One connection, shared by many requests: each sends complete transactions and waits for its result.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend::{self, BindError};
use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot};

use crate::cancel::Canceller;
use crate::driver::{Driver, Pending, Relied, State};
use crate::error::{ConnectError, DatabaseError, ServerError};
use crate::prepared::Use;
use crate::quote;
use crate::row::Rows;
use crate::startup;
use crate::statement::{Notification, Results, Statement};
use crate::stream::Stream;
use crate::target::{Host, SessionAttributes, Target};
use crate::user_timeout::UserTimeout;

type Answer = oneshot::Receiver<Result<Results, DatabaseError>>;

/// A connection of this thread. A task on the thread's [`tokio::task::LocalSet`] reads and writes its socket. The
/// messages queued in one iteration of the event loop are sent in one write.
#[derive(Debug)]
pub struct Connection {
    state: Rc<RefCell<State>>,
    canceller: Canceller,
    version: String,
}

impl Connection {
    /// Connects to the first of the target's hosts that accepts the login and has the wanted session attributes, and
    /// starts the task that serves the connection. Must be called on a `LocalSet` or local runtime.
    ///
    /// # Errors
    /// No host is suitable; the error is that of the last one.
    pub async fn connect(target: &Arc<Target>, prepare: bool) -> Result<Self, ConnectError> {
        let passes: &[SessionAttributes] = match target.session_attributes {
            SessionAttributes::PreferStandby => &[SessionAttributes::Standby, SessionAttributes::Any],
            ref attributes => std::slice::from_ref(attributes),
        };
        let mut last = None;
        for wanted in passes {
            for host in &target.hosts {
                match Self::connect_to(target, host, *wanted, prepare).await {
                    Ok(connection) => return Ok(connection),
                    Err(error) => last = Some(error),
                }
            }
        }
        Err(last.unwrap_or_else(|| refused("no host".to_owned(), "there is none to connect to")))
    }

    async fn connect_to(
        target: &Arc<Target>,
        host: &Host,
        wanted: SessionAttributes,
        prepare: bool,
    ) -> Result<Self, ConnectError> {
        let started = startup::start(target, host).await?;
        let canceller = Canceller {
            target: Arc::clone(target),
            host: host.clone(),
            encrypted: matches!(started.stream, Stream::Tls(_)),
            process_id: started.process_id,
            secret_key: started.secret_key,
        };
        let version = started.parameters.get("server_version").cloned().unwrap_or_default();
        let state = Rc::new(RefCell::new(State::new(prepare)));
        let user_timeout = UserTimeout::new(target.user_timeout);
        tokio::task::spawn_local(Driver::new(
            started.stream,
            started.buffer,
            user_timeout,
            Rc::clone(&state),
        ));
        let connection = Self { state, canceller, version };
        let refused = |reason: &str| refused(host.to_string(), reason);
        match tokio::time::timeout(target.connect_timeout, connection.fits(wanted)).await {
            Ok(Ok(true)) => Ok(connection),
            Ok(Ok(false)) => Err(refused("the server's session attributes are not the wanted ones")),
            Ok(Err(error)) => Err(refused(&error.to_string())),
            Err(_) => Err(refused("timed out asking for the server's session attributes")),
        }
    }

    /// Whether the server has the wanted session attributes.
    async fn fits(&self, wanted: SessionAttributes) -> Result<bool, DatabaseError> {
        let sql = match wanted {
            SessionAttributes::Any | SessionAttributes::PreferStandby => return Ok(true),
            SessionAttributes::ReadWrite => {
                "select not pg_is_in_recovery() and current_setting('default_transaction_read_only') = 'off'"
            }
            SessionAttributes::ReadOnly => {
                "select pg_is_in_recovery() or current_setting('default_transaction_read_only') = 'on'"
            }
            SessionAttributes::Primary => "select not pg_is_in_recovery()",
            SessionAttributes::Standby => "select pg_is_in_recovery()",
        };
        let rows = self.query(&sql.into()).await?;
        Ok(rows.first().and_then(|row| row.text(0)) == Some("t"))
    }

    /// Runs one statement in a separate transaction and returns its rows.
    ///
    /// # Errors
    /// The statement failed, or the connection broke.
    pub async fn query(&self, statement: &Statement) -> Result<Rows, DatabaseError> {
        Ok(self.exchange([statement]).await?.pop().unwrap_or_default())
    }

    /// Runs statements in one round trip up to one Sync, and returns the rows of each. Outside a transaction
    /// block they are one implicit transaction, which takes effect completely or not at all.
    ///
    /// The call queues them; the first poll of the future is not needed for that.
    ///
    /// # Errors
    /// One of them or the commit failed, or the connection broke.
    pub fn exchange<'a>(&self, statements: impl IntoIterator<Item = &'a Statement>) -> Exchange {
        Exchange(self.send(statements, true).map_err(Some))
    }

    /// Like [`Connection::exchange`], but parses each statement anew and uses no prepared statement.
    ///
    /// # Errors
    /// Those of [`Connection::exchange`].
    pub fn exchange_anew<'a>(&self, statements: impl IntoIterator<Item = &'a Statement>) -> Exchange {
        Exchange(self.send(statements, false).map_err(Some))
    }

    /// Runs a text of any number of statements by the simple query protocol
    /// (<https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SIMPLE-QUERY>), and returns the
    /// rows of each. Several statements without a `BEGIN` are one transaction.
    ///
    /// The call queues the text; the first poll of the future is not needed for that.
    ///
    /// # Errors
    /// A statement failed (the position in the error counts from the beginning of the text), or the connection broke.
    pub fn simple_query(&self, sql: &str) -> Exchange {
        let (reply, answer) = oneshot::channel();
        let queued = refuse_nul(sql.as_bytes()).and_then(|()| self.command(sql, Pending::simple(reply)));
        Exchange(queued.map(|()| answer).map_err(Some))
    }

    /// Queues commands that must succeed, and returns their result. They are sent in the same write as the exchanges
    /// before and behind them. If they fail, the connection is closed, and the exchanges behind them fail with
    /// [`DatabaseError::Closed`].
    pub fn essential(&self, commands: &str) -> Exchange {
        let (reply, answer) = oneshot::channel();
        Exchange(self.command(commands, Pending::essential(Some(reply))).map(|()| answer).map_err(Some))
    }

    fn send<'a>(
        &self,
        statements: impl IntoIterator<Item = &'a Statement>,
        prepared: bool,
    ) -> Result<Answer, DatabaseError> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        if let Some(reason) = &state.closed {
            return Err(reason.copy());
        }
        let start = state.out.len();
        let mut parses = SmallVec::new();
        let mut relied = Relied::new();
        let encoded = (|| {
            for name in state.prepared.take_closing() {
                frontend::close(b'S', Name::of(name).as_str(), &mut state.out)?;
            }
            for statement in statements {
                let chosen = if prepared { state.prepared.choose(&statement.sql) } else { Use::Unnamed };
                let (name, types) = match chosen {
                    Use::Unnamed => (Name::unnamed(), None),
                    Use::Parse(name) => (Name::of(name), None),
                    Use::Named(name, types) => (Name::of(name), Some(types)),
                };
                let parsed = types.is_none();
                if parsed {
                    refuse_nul(statement.sql.as_bytes())?;
                    parses.push((!name.is_unnamed()).then(|| Arc::clone(&statement.sql)));
                    frontend::parse(name.as_str(), &statement.sql, [], &mut state.out)?;
                }
                relied.push(types.map(|types| (Arc::clone(&statement.sql), types)));
                bind(name.as_str(), &statement.parameters, &mut state.out)?;
                if parsed && statement.described {
                    frontend::describe(b'P', "", &mut state.out)?;
                }
                frontend::execute("", 0, &mut state.out)?;
            }
            Ok(())
        })();
        if let Err(error) = encoded {
            // No byte of the exchange was sent yet, so it can be removed from the buffer.
            state.out.truncate(start);
            for sql in parses.iter().flatten() {
                state.prepared.forget(sql);
            }
            return Err(error);
        }
        frontend::sync(&mut state.out);
        let (reply, answer) = oneshot::channel();
        state.push(Pending::new(reply, parses, relied), start);
        state.wake();
        Ok(answer)
    }

    /// Queues [`Connection::essential`] commands whose result is discarded.
    pub fn ensure(&self, commands: &str) {
        // An error means that the connection is closed, where the commands have no purpose.
        let _ = self.command(commands, Pending::essential(None));
    }

    fn command(&self, commands: &str, pending: Pending) -> Result<(), DatabaseError> {
        let mut state = self.state.borrow_mut();
        if let Some(reason) = &state.closed {
            return Err(reason.copy());
        }
        // The simple query protocol does not depend on prepared statements.
        let start = state.out.len();
        frontend::query(commands, &mut state.out)?;
        state.push(pending, start);
        state.wake();
        Ok(())
    }

    /// Listens on `channel` and returns a receiver of its notifications, which ends with the connection.
    ///
    /// # Errors
    /// The statement failed, or the connection broke.
    pub async fn listen(
        &self,
        channel: &str,
    ) -> Result<mpsc::UnboundedReceiver<Notification>, DatabaseError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.state.borrow_mut().notifications = Some(sender);
        let channel = quote::identifier(channel);
        self.query(&format!("listen {channel}").as_str().into()).await?;
        Ok(receiver)
    }

    /// Cancels the running statement and waits until the server has signalled its process, so a statement that starts
    /// later is not cancelled. Only sensible when no other request is running or queued on the connection.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub fn cancel(&self) -> impl Future<Output = std::io::Result<()>> + use<> {
        let canceller = self.canceller.clone();
        async move { canceller.cancel().await }
    }

    /// The number of exchanges without a complete result.
    #[inline]
    pub fn in_flight(&self) -> usize {
        self.state.borrow().pending.len()
    }

    /// A counter that grows with each read from the server.
    #[inline]
    pub fn heard(&self) -> u64 {
        self.state.borrow().heard
    }

    /// Closes the connection; every pending exchange fails with `reason`.
    pub fn give_up(&self, reason: DatabaseError) {
        let mut state = self.state.borrow_mut();
        state.close(reason);
        state.wake();
    }

    /// Whether all statements of the running exchange are complete and only the commit is pending. A cancel would
    /// then not undo them, but end the wait for the synchronous standbys.
    #[inline]
    pub fn is_committing(&self) -> bool {
        self.state.borrow().pending.front().is_some_and(Pending::is_completed)
    }

    /// The reason why the connection is closed, if it is that the server is unreachable.
    pub fn unreachable(&self) -> Option<DatabaseError> {
        self.state.borrow().closed.as_ref().filter(|reason| reason.is_unreachable()).map(DatabaseError::copy)
    }

    /// Whether the connection is closed.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.state.borrow().closed.is_some()
    }

    /// Whether no transaction is open after the last exchange.
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.state.borrow().transaction == b'I'
    }

    /// Closes all prepared statements, since the schema has changed.
    pub fn forget_statements(&self) {
        self.state.borrow_mut().prepared.forget_all();
    }

    /// PostgreSQL's `server_version`.
    #[inline]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The server's address.
    pub fn address(&self) -> String {
        self.canceller.host.to_string()
    }

    /// The id of the server process (backend) of this connection.
    #[inline]
    pub fn process_id(&self) -> i32 {
        self.canceller.process_id
    }
}

/// The result of a queued exchange. Dropping it discards the result; the statements run all the same.
#[derive(Debug)]
pub struct Exchange(Result<Answer, Option<DatabaseError>>);

impl Future for Exchange {
    type Output = Result<Results, DatabaseError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(answer) => {
                Pin::new(answer).poll(context).map(|answer| answer.unwrap_or(Err(DatabaseError::Closed)))
            }
            Err(error) => Poll::Ready(Err(error.take().unwrap_or(DatabaseError::Closed))),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        state.closing = true;
        state.wake();
    }
}

fn refused(address: String, reason: &str) -> ConnectError {
    ConnectError { address, reason: reason.to_owned(), sqlstate: None }
}

/// A statement's name on the wire, without an allocation.
struct Name(SmallVec<[u8; 24]>);

impl Name {
    fn unnamed() -> Self {
        Self(SmallVec::new())
    }

    fn of(number: u64) -> Self {
        let mut name = SmallVec::from_slice(b"s");
        name.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        Self(name)
    }

    fn is_unnamed(&self) -> bool {
        self.0.is_empty()
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a letter and digits")
    }
}

fn bind(
    statement: &str,
    parameters: &[Option<Bytes>],
    out: &mut bytes::BytesMut,
) -> Result<(), DatabaseError> {
    let bound = frontend::bind(
        "",
        statement,
        [],
        parameters,
        |parameter, out| {
            Ok(match parameter {
                Some(value) => {
                    refuse_nul(value)?;
                    out.extend_from_slice(value);
                    IsNull::No
                }
                None => IsNull::Yes,
            })
        },
        [],
        out,
    );
    bound.map_err(|error| match error {
        BindError::Conversion(error) if error.is::<DatabaseError>() => {
            error.downcast::<DatabaseError>().map_or(DatabaseError::Closed, |error| *error)
        }
        BindError::Conversion(error) => DatabaseError::Protocol(error.to_string()),
        BindError::Serialization(error) => DatabaseError::Io(error),
    })
}

/// Rejects text with NUL, which PostgreSQL's text cannot contain, with PostgreSQL's wording. PostgreSQL would
/// truncate it, or reject it when other exchanges are already queued behind it.
fn refuse_nul(text: &[u8]) -> Result<(), DatabaseError> {
    if memchr::memchr(0, text).is_none() {
        return Ok(());
    }
    Err(DatabaseError::Server(Box::new(ServerError {
        severity: "ERROR".to_owned(),
        code: "22021".to_owned(),
        message: "invalid byte sequence for encoding \"UTF8\": 0x00".to_owned(),
        ..ServerError::default()
    })))
}
