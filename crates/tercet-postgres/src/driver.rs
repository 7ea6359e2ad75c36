//! The task of a connection: writes the queued messages, reads those of the server, and delivers each result to the
//! exchange that it belongs to.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::{
    BIND_COMPLETE_TAG, CLOSE_COMPLETE_TAG, COMMAND_COMPLETE_TAG, DATA_ROW_TAG, Header, Message,
    READY_FOR_QUERY_TAG,
};
use postgres_protocol::message::frontend;
use smallvec::SmallVec;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};
use tokio::sync::{mpsc, oneshot};

use crate::error::{DatabaseError, ServerError, Stage};
use crate::prepared::Prepared;
use crate::row::{Row, Rows, Types};
use crate::statement::{Notification, Results};
use crate::stream::Stream;
use crate::user_timeout::UserTimeout;

/// The minimum capacity of a read, in bytes.
const READ: usize = 32 * 1024;
/// The maximum capacity of a read, in bytes.
const LONG_READ: usize = 1024 * 1024;
/// The size of a message's tag and length, in bytes.
const HEADER: usize = 5;
/// Rows up to this size in bytes are copied out of the read buffer, which can then be reused; longer ones share its
/// memory.
const SHORT_ROW: usize = 8 * 1024;

/// The statements that an exchange parses; `None` for an unnamed one.
pub(crate) type Parses = SmallVec<[Option<Arc<str>>; 3]>;

/// The statements of an exchange that were prepared by an earlier one, with the types of their columns; `None` for
/// others.
pub(crate) type Relied = SmallVec<[Option<(Arc<str>, Option<Types>)>; 3]>;
/// The sender of an exchange's result.
pub(crate) type Reply = oneshot::Sender<Result<Results, DatabaseError>>;

/// The C function of PostgreSQL that waits until a commit is on the synchronous standbys. It is the `routine` field
/// of the warning that the wait was cancelled. That field identifies the warning: the message is translated, and SQL
/// can raise any message but cannot set this field.
const REPLICATION_WAIT: &[u8] = b"SyncRepWaitForLSN";

/// An exchange whose ReadyForQuery has not been received.
#[derive(Debug)]
pub(crate) struct Pending {
    reply: Option<Reply>,
    /// Whether the connection is closed when the exchange fails.
    essential: bool,
    /// Whether its commit may be missing on the synchronous standbys.
    unreplicated: bool,
    /// The size of its messages, in bytes.
    length: usize,
    parses: Parses,
    parsed: usize,
    relied: Relied,
    /// The number of statements that are bound to their parameters.
    bound: usize,
    results: Results,
    rows: Rows,
    error: Option<DatabaseError>,
}

impl Pending {
    pub(crate) fn new(reply: Reply, parses: Parses, relied: Relied) -> Self {
        Self::with(Some(reply), false, parses, relied)
    }

    /// An exchange by the simple query protocol: its statements are neither prepared nor described.
    pub(crate) fn simple(reply: Reply) -> Self {
        Self::with(Some(reply), false, Parses::new(), Relied::new())
    }

    /// An exchange that must succeed; otherwise the connection is closed.
    pub(crate) fn essential(reply: Option<Reply>) -> Self {
        Self::with(reply, true, Parses::new(), Relied::new())
    }

    fn with(reply: Option<Reply>, essential: bool, parses: Parses, relied: Relied) -> Self {
        Self {
            reply,
            essential,
            unreplicated: false,
            length: 0,
            parses,
            parsed: 0,
            relied,
            bound: 0,
            results: Results::new(),
            rows: Rows::default(),
            error: None,
        }
    }

    /// The next statement without a result, if an earlier exchange prepared it.
    fn relied(&self) -> Option<&(Arc<str>, Option<Types>)> {
        self.relied.get(self.results.len()).and_then(Option::as_ref)
    }

    /// The stage of the next statement without a result.
    fn stage(&self) -> Stage {
        if self.relied.is_empty() || self.bound > self.results.len() {
            Stage::Running
        } else {
            Stage::Binding { prepared: self.relied().is_some() }
        }
    }

    /// Whether CommandComplete was received for every statement, so that only the commit is pending.
    pub(crate) fn is_completed(&self) -> bool {
        !self.relied.is_empty() && self.results.len() >= self.relied.len()
    }

    fn finish(self) -> Result<(), DatabaseError> {
        let failed = self.essential && self.error.is_some();
        let answer = match self.error {
            Some(error) => Err(error),
            None if self.unreplicated && !self.essential => Err(DatabaseError::Unreplicated),
            None => Ok(self.results),
        };
        if let Some(reply) = self.reply {
            // The receiver may have been dropped.
            let _ = reply.send(answer);
        }
        if failed { Err(DatabaseError::Closed) } else { Ok(()) }
    }

    /// Fails the exchange, since the connection is closed for `reason`.
    fn cut_off(self, reason: &DatabaseError) {
        let error = match self.error {
            Some(error) => error,
            None if self.unreplicated => DatabaseError::Unreplicated,
            None => reason.copy(),
        };
        if let Some(reply) = self.reply {
            let _ = reply.send(Err(error));
        }
    }
}

/// The state that a [`Connection`](crate::Connection) and its task share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) out: BytesMut,
    pub(crate) pending: std::collections::VecDeque<Pending>,
    /// The total size of all pending exchanges, in bytes.
    unanswered: usize,
    pub(crate) prepared: Prepared,
    pub(crate) notifications: Option<mpsc::UnboundedSender<Notification>>,
    /// The status of the last ReadyForQuery: `I`, `T` or `E`.
    pub(crate) transaction: u8,
    /// Whether the `Connection` was dropped.
    pub(crate) closing: bool,
    /// Grows with each read from the server.
    pub(crate) heard: u64,
    /// The reason why the connection is closed.
    pub(crate) closed: Option<DatabaseError>,
    driver: Option<Waker>,
}

impl State {
    pub(crate) fn new(prepare: bool) -> Self {
        Self {
            out: BytesMut::new(),
            pending: std::collections::VecDeque::new(),
            unanswered: 0,
            prepared: Prepared::new(prepare),
            notifications: None,
            transaction: b'I',
            closing: false,
            heard: 0,
            closed: None,
            driver: None,
        }
    }

    /// Queues an exchange whose messages begin at `start` in `out`. Results arrive in the order of the queue.
    pub(crate) fn push(&mut self, pending: Pending, start: usize) {
        let length = self.out.len() - start;
        self.unanswered += length;
        self.pending.push_back(Pending { length, ..pending });
    }

    pub(crate) fn wake(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    pub(crate) fn close(&mut self, reason: DatabaseError) {
        for pending in self.pending.drain(..) {
            pending.cut_off(&reason);
        }
        self.notifications = None;
        self.closed.get_or_insert(reason);
    }

    fn receive(&mut self, message: Message) -> Result<(), DatabaseError> {
        match message {
            Message::CommandComplete(body) => self.completed(body.tag().map_err(protocol)?.as_bytes())?,
            Message::EmptyQueryResponse => self.completed(b"")?,
            Message::ReadyForQuery(body) => self.ready(body.status())?,
            Message::ParseComplete => {
                let front = self.pending.front_mut().ok_or_else(unexpected)?;
                let sql = front.parses.get(front.parsed).ok_or_else(unexpected)?;
                front.parsed += 1;
                if let Some(sql) = sql {
                    self.prepared.parsed(sql);
                }
            }
            Message::ErrorResponse(body) => {
                let mut error = ServerError::parse(&mut body.fields()).map_err(protocol)?;
                match self.pending.front_mut() {
                    Some(front) => {
                        error.stage = front.stage();
                        // A prepared statement that failed before it ran may be stale, so it is prepared anew.
                        if error.stage != Stage::Running
                            && let Some((sql, _)) = front.relied()
                        {
                            self.prepared.forget(sql);
                        }
                        front.error = Some(DatabaseError::Server(Box::new(error)));
                    }
                    // An error without an exchange: the server is about to close the connection.
                    None => self.closed = Some(DatabaseError::Server(Box::new(error))),
                }
            }
            Message::NotificationResponse(body) => {
                if let Some(listener) = &self.notifications {
                    let _ = listener.send(Notification {
                        channel: body.channel().map_err(protocol)?.to_owned(),
                        payload: body.message().map_err(protocol)?.to_owned(),
                    });
                }
            }
            Message::RowDescription(body) => {
                let types = body.fields().map(|field| Ok(field.type_oid())).collect::<Vec<_>>();
                let types = Types::from(types.map_err(protocol)?);
                let front = self.pending.front_mut().ok_or_else(unexpected)?;
                // Only parsed statements are described, directly after their Parse.
                if let Some(Some(sql)) = front.parsed.checked_sub(1).and_then(|last| front.parses.get(last)) {
                    self.prepared.described(sql, &types);
                }
                front.rows.set_types(Some(types));
            }
            Message::NoticeResponse(body) => {
                let of_replication = body
                    .fields()
                    .any(|field| Ok(field.type_() == b'R' && field.value_bytes() == REPLICATION_WAIT));
                if let Some(front) = self.pending.front_mut() {
                    front.unreplicated |= of_replication.map_err(protocol)?;
                }
            }
            Message::CopyInResponse(_) | Message::CopyOutResponse(_) => {
                return Err(DatabaseError::Protocol(
                    "COPY from or to the client is not supported".to_owned(),
                ));
            }
            Message::ParameterStatus(_) | Message::NoData => {}
            _ => return Err(unexpected()),
        }
        Ok(())
    }

    /// A statement is complete, with this command tag.
    fn completed(&mut self, tag: &[u8]) -> Result<(), DatabaseError> {
        let front = self.front()?;
        let mut rows = std::mem::take(&mut front.rows);
        rows.set_tag(tag);
        if let Some((_, types)) = front.relied() {
            rows.set_types(types.clone());
        }
        front.results.push(rows);
        Ok(())
    }

    /// An exchange is complete; `status` is that of the transaction.
    fn ready(&mut self, status: u8) -> Result<(), DatabaseError> {
        self.transaction = status;
        let pending = self.pending.pop_front().ok_or_else(unexpected)?;
        self.unanswered -= pending.length;
        // Statements that were skipped because of an earlier error are not prepared.
        for sql in pending.parses[pending.parsed..].iter().flatten() {
            self.prepared.forget(sql);
        }
        pending.finish()
    }

    fn front(&mut self) -> Result<&mut Pending, DatabaseError> {
        self.pending.front_mut().ok_or_else(unexpected)
    }
}

fn unexpected() -> DatabaseError {
    DatabaseError::Protocol("it answers no statement".to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn protocol(error: io::Error) -> DatabaseError {
    DatabaseError::Protocol(error.to_string())
}

/// The future that serves one connection until the client or the server closes it.
pub(crate) struct Driver {
    stream: Stream,
    buffer: BytesMut,
    /// The number of bytes that the message at the end of the buffer lacks.
    missing: usize,
    user_timeout: UserTimeout,
    state: Rc<RefCell<State>>,
}

impl Driver {
    pub(crate) fn new(
        stream: Stream,
        buffer: BytesMut,
        user_timeout: UserTimeout,
        state: Rc<RefCell<State>>,
    ) -> Self {
        Self { stream, buffer, missing: 0, user_timeout, state }
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state.borrow_mut();
        while !state.out.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, &state.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            state.out.advance(written);
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), DatabaseError>> {
        // Capacity for the rest of a long message, so that one read can take it.
        self.buffer.reserve(self.missing.clamp(READ, LONG_READ));
        let read = ready!(pin!(self.stream.read_buf(&mut self.buffer)).poll(context))?;
        if read == 0 {
            return Poll::Ready(Err(DatabaseError::Closed));
        }
        let mut state = self.state.borrow_mut();
        state.heard += 1;
        loop {
            let (tag, length) = match Header::parse(&self.buffer).map_err(protocol)? {
                // The length includes itself but not the tag.
                Some(header) => (header.tag(), header.len() as usize + 1),
                None => (0, HEADER),
            };
            if self.buffer.len() < length {
                self.missing = length - self.buffer.len();
                return Poll::Ready(Ok(()));
            }
            // The messages of every exchange are parsed in place, since a `Message` is an allocation.
            match (tag, &self.buffer[HEADER..length]) {
                (BIND_COMPLETE_TAG, _) => state.front()?.bound += 1,
                (CLOSE_COMPLETE_TAG, _) => {}
                (DATA_ROW_TAG, row) if length <= SHORT_ROW => {
                    state.front()?.rows.push(Row::parse(Bytes::copy_from_slice(row))?);
                }
                (DATA_ROW_TAG, _) => {
                    let row = self.buffer.split_to(length).freeze().slice(HEADER..);
                    state.front()?.rows.push(Row::parse(row)?);
                    continue;
                }
                (COMMAND_COMPLETE_TAG, tag) => state.completed(tag)?,
                (READY_FOR_QUERY_TAG, [status]) => state.ready(*status)?,
                _ => {
                    if let Some(message) = Message::parse(&mut self.buffer).map_err(protocol)? {
                        state.receive(message)?;
                    }
                    continue;
                }
            }
            self.buffer.advance(length);
        }
    }

    fn poll_serve(&mut self, context: &mut Context<'_>) -> Poll<Result<(), DatabaseError>> {
        if let Some(reason) = &self.state.borrow().closed {
            return Poll::Ready(Err(reason.copy()));
        }
        if let Poll::Ready(written) = self.poll_write(context) {
            written?;
        }
        while let Poll::Ready(read) = self.poll_read(context) {
            read?;
        }
        let mut state = self.state.borrow_mut();
        self.user_timeout.adjust(&self.stream, state.unanswered)?;
        if state.closing && state.pending.is_empty() && state.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if !state.driver.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            state.driver = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let served = ready!(self.poll_serve(context));
        let reason = match served {
            Ok(()) => {
                let mut goodbye = BytesMut::new();
                frontend::terminate(&mut goodbye);
                // The server treats a closed stream like Terminate, so an error does not matter.
                let _ = Pin::new(&mut self.stream).poll_write(context, &goodbye);
                DatabaseError::Closed
            }
            Err(error) => error,
        };
        self.state.borrow_mut().close(reason);
        Poll::Ready(())
    }
}
