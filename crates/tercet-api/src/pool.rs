//! A thread's connection pool: a few connections, pipelined for many requests, or leased exclusively.
//!
//! Pipelined requests share a connection, each as its own transaction. PostgreSQL answers in order, so only
//! statements with a low latency estimate are queued behind others. The pool does not know the content of statements.

mod latency;
mod lease;
mod reset;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tercet_postgres::{Connection, DatabaseError, Target};
use tokio::sync::oneshot;

use self::latency::LatencyEstimates;
pub use self::lease::Lease;
use crate::error::StatementError;

/// The maximum number of pipelined requests on a connection.
const PIPELINE_DEPTH: usize = 16;
/// A connection without an answer for this long gets no further requests.
const PIPELINE_TIMEOUT: Duration = Duration::from_millis(20);
/// The interval at which expired, idle and dead connections are closed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Added to the statement timeout before an unresponsive connection is closed.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(5);
/// If another connection has been answered within this time, PostgreSQL counts as reachable.
const REACHABLE_WITHIN: Duration = Duration::from_secs(1);
/// During an outage of the database, connections without an answer for this long are closed.
const OUTAGE_TIMEOUT: Duration = Duration::from_secs(2);

/// The configuration of a pool.
#[derive(Clone, Debug)]
pub struct Options {
    /// The connection parameters.
    pub target: Arc<Target>,
    /// The maximum number of connections.
    pub size: usize,
    /// The timeout for a lease.
    pub acquisition_timeout: Duration,
    /// The idle timeout of a connection, except the last one.
    pub max_idletime: Duration,
    /// The maximum age of a connection.
    pub max_lifetime: Duration,
    /// Whether statements are prepared.
    pub prepare: bool,
    /// Commands that set up a session, repeated after each reset.
    pub session: String,
}

/// Counts of all pools of the process.
#[derive(Debug, Default)]
pub struct Counts {
    /// Open connections.
    pub open: AtomicI64,
    /// Idle connections.
    pub available: AtomicI64,
    /// Requests waiting for a connection.
    pub waiting: AtomicI64,
    /// Requests whose lease timed out.
    pub timeouts: AtomicU64,
}

/// How a connection is leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseMode {
    /// Pipelined with other requests, for one exchange of a statement with this [key](Pool::key). Unless the
    /// statement leaves the session untouched, a reset follows in the same write, before the next request's
    /// statements.
    Shared(u64, SessionState),
    /// Exclusive, for a transaction with several exchanges. The connection is reset before its next lease, unless the
    /// statements leave the session untouched and all of them succeed.
    Exclusive(SessionState),
}

impl LeaseMode {
    fn state(&mut self) -> &mut SessionState {
        match self {
            Self::Shared(_, state) | Self::Exclusive(state) => state,
        }
    }

    fn is_exclusive(self) -> bool {
        matches!(self, Self::Exclusive(_))
    }
}

/// The effect of statements on the session beyond their transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// None, as is proved: they execute only PostgreSQL's own code, and leave nothing behind if they succeed, but for
    /// the numbers that writes draw from sequences. None of them reads these.
    Untouched,
    /// Settings, locks, cursors or temporary tables may remain.
    MayChange,
}

/// The connections of one thread.
#[derive(Clone, Debug)]
pub struct Pool(Rc<Inner>);

struct Inner {
    options: Options,
    counts: Arc<Counts>,
    /// Called when no connection is left and none can be opened.
    on_unreachable: Box<dyn Fn(&DatabaseError)>,
    slots: RefCell<Vec<Rc<Slot>>>,
    waiters: RefCell<VecDeque<Waiter>>,
    opening: Cell<usize>,
    latencies: RefCell<LatencyEstimates>,
    /// The commands of a [`reset`].
    reset: String,
    /// When PostgreSQL last answered on any connection.
    answered: Cell<Instant>,
    /// The number of schema changes so far.
    generation: Cell<u64>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("options", &self.options).finish_non_exhaustive()
    }
}

struct Slot {
    connection: Connection,
    opened: Instant,
    /// When the connection last answered, or received a request while idle.
    last_activity: Cell<Instant>,
    users: Cell<usize>,
    /// Users whose statements are not known to be fast.
    slow_users: Cell<usize>,
    exclusive: Cell<bool>,
    /// The session must be reset before or with the next lease.
    needs_reset: Cell<bool>,
    /// Whether writes may have drawn numbers from sequences, which `lastval()` returns.
    has_drawn: Cell<bool>,
    /// Whether an exclusive commit is in flight.
    committing: Cell<bool>,
    /// Removed from the pool: not leased again.
    removed: Cell<bool>,
    /// The connection's receive counter at the last sweep, and how long it has not changed while statements were in
    /// flight.
    silence: Cell<(u64, Duration)>,
    /// The timeout of the statements in flight; `None` if there is none.
    limit: Cell<Option<Duration>>,
}

struct Waiter {
    mode: LeaseMode,
    grant: oneshot::Sender<Result<Lease, DatabaseError>>,
}

impl Pool {
    /// An empty pool. `on_unreachable` is called when no connection is left and none can be opened.
    pub fn new(
        options: Options,
        counts: Arc<Counts>,
        on_unreachable: impl Fn(&DatabaseError) + 'static,
    ) -> Self {
        let pool = Self(Rc::new(Inner {
            reset: reset::commands(&options.session),
            options,
            counts,
            on_unreachable: Box::new(on_unreachable),
            slots: RefCell::default(),
            waiters: RefCell::default(),
            opening: Cell::new(0),
            answered: Cell::new(Instant::now()),
            generation: Cell::new(0),
            latencies: RefCell::default(),
        }));
        let inner = Rc::downgrade(&pool.0);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(SWEEP_INTERVAL).await;
                let Some(inner) = inner.upgrade() else { return };
                inner.sweep();
            }
        });
        pool
    }

    /// Identifies a statement for [`LeaseMode::Shared`].
    pub fn key(sql: &str) -> u64 {
        latency::key(sql)
    }

    /// Leases a connection, waiting until one is available.
    ///
    /// # Errors
    /// None became available in time, or none can be opened.
    pub async fn lease(&self, mode: LeaseMode) -> Result<Lease, StatementError> {
        if self.0.waiters.borrow().is_empty()
            && let Some(lease) = self.0.grant(mode)
        {
            return Ok(lease);
        }
        let (grant, granted) = oneshot::channel();
        self.0.waiters.borrow_mut().push_back(Waiter { mode, grant });
        self.0.dispatch();
        self.0.counts.waiting.fetch_add(1, Ordering::Relaxed);
        let granted = tokio::time::timeout(self.0.options.acquisition_timeout, granted).await;
        self.0.counts.waiting.fetch_sub(1, Ordering::Relaxed);
        let Ok(granted) = granted else {
            self.0.counts.timeouts.fetch_add(1, Ordering::Relaxed);
            return Err(StatementError::PoolTimeout);
        };
        Ok(granted.unwrap_or(Err(DatabaseError::Closed))?)
    }

    /// Replaces all open connections, because their sessions hold outdated state. Existing leases stay valid.
    pub fn replace_connections(&self) {
        self.0.remove(|_| true);
    }

    /// Grows with each [schema change](Self::schema_changed): what was proved of an earlier schema is not valid any
    /// more.
    pub fn generation(&self) -> u64 {
        self.0.generation.get()
    }

    /// Closes unresponsive connections with statements in flight, during an outage.
    pub fn close_unresponsive(&self) {
        self.0.close_unresponsive(|_| Some(OUTAGE_TIMEOUT));
    }

    /// After a schema change: prepares all statements again, and resets all sessions, since a proof of no side
    /// effects may have been outdated.
    pub fn schema_changed(&self) {
        self.0.generation.set(self.0.generation.get() + 1);
        for slot in self.0.slots.borrow().iter() {
            slot.connection.forget_statements();
            if slot.users.get() == 0 {
                slot.connection.ensure(&self.0.reset);
            } else {
                slot.needs_reset.set(true);
            }
        }
    }
}

impl Inner {
    /// Leases a connection that is available immediately.
    fn grant(self: &Rc<Self>, mut mode: LeaseMode) -> Option<Lease> {
        self.remove(|slot| slot.connection.is_closed());
        let slots = self.slots.borrow();
        let now = Instant::now();
        let (slot, slow) = match mode {
            LeaseMode::Exclusive(_) => (slots.iter().rev().find(|slot| slot.users.get() == 0)?, true),
            LeaseMode::Shared(key, state) => {
                let fast = self.latencies.borrow().is_fast(key);
                let slot = match state {
                    SessionState::Untouched if fast => slots.iter().find(|slot| slot.accepts_shared(now)),
                    // A reset takes longer the more statements are prepared: prefer the same connection.
                    SessionState::MayChange if fast => {
                        slots.iter().rev().find(|slot| slot.accepts_shared(now))
                    }
                    _ => slots.iter().rev().find(|slot| slot.users.get() == 0),
                };
                (slot?, !fast)
            }
        };
        if slot.needs_reset.take() {
            *mode.state() = SessionState::MayChange;
        }
        if slot.users.get() == 0 {
            slot.last_activity.set(now);
            self.counts.available.fetch_sub(1, Ordering::Relaxed);
        }
        slot.users.set(slot.users.get() + 1);
        slot.slow_users.set(slot.slow_users.get() + usize::from(slow));
        slot.exclusive.set(mode.is_exclusive());
        Some(Lease::new(Rc::clone(self), Rc::clone(slot), mode, slow, now))
    }

    /// Serves waiting requests in order, and opens connections for the rest.
    fn dispatch(self: &Rc<Self>) {
        loop {
            let Some(mode) = self.waiters.borrow().front().map(|waiter| waiter.mode) else { return };
            let gone = self.waiters.borrow().front().is_some_and(|waiter| waiter.grant.is_closed());
            let lease = if gone { None } else { self.grant(mode) };
            if lease.is_none() && !gone {
                break;
            }
            let waiter = self.waiters.borrow_mut().pop_front();
            if let (Some(waiter), Some(lease)) = (waiter, lease) {
                // If the waiting request was cancelled meanwhile, dropping the lease returns it.
                let _ = waiter.grant.send(Ok(lease));
            }
        }
        let (open, opening) = (self.slots.borrow().len(), self.opening.get());
        if opening < self.waiters.borrow().len() && open + opening < self.options.size {
            self.opening.set(opening + 1);
            tokio::task::spawn_local(Rc::clone(self).open());
        }
    }

    async fn open(self: Rc<Self>) {
        let connected = self.connect().await;
        self.opening.set(self.opening.get() - 1);
        match connected {
            Ok(connection) => {
                let now = Instant::now();
                self.counts.open.fetch_add(1, Ordering::Relaxed);
                self.counts.available.fetch_add(1, Ordering::Relaxed);
                self.slots.borrow_mut().push(Rc::new(Slot {
                    connection,
                    opened: now,
                    last_activity: Cell::new(now),
                    users: Cell::new(0),
                    slow_users: Cell::new(0),
                    exclusive: Cell::new(false),
                    needs_reset: Cell::new(false),
                    has_drawn: Cell::new(false),
                    committing: Cell::new(false),
                    removed: Cell::new(false),
                    silence: Cell::default(),
                    limit: Cell::new(None),
                }));
                self.dispatch();
            }
            Err(error) => {
                let was_last = self.slots.borrow().is_empty() && self.opening.get() == 0;
                // PostgreSQL rejected the login: it runs, and requests wait for an open connection.
                let rejected = matches!(&error, DatabaseError::Connect(error) if error.sqlstate.is_some());
                if was_last || !rejected && !self.is_reachable() {
                    self.fail_waiters(&error);
                }
                if was_last {
                    (self.on_unreachable)(&error);
                }
            }
        }
    }

    /// Whether a connection has been answered lately.
    fn is_reachable(&self) -> bool {
        self.answered.get().elapsed() < REACHABLE_WITHIN
    }

    fn fail_waiters(&self, error: &DatabaseError) {
        for waiter in self.waiters.take() {
            let _ = waiter.grant.send(Err(error.copy()));
        }
    }

    async fn connect(&self) -> Result<Connection, DatabaseError> {
        let connection = Connection::connect(&self.options.target, self.options.prepare).await?;
        if !self.options.session.is_empty() {
            connection.ensure(&self.options.session);
        }
        Ok(connection)
    }

    fn release(self: &Rc<Self>, slot: &Rc<Slot>, slow: bool) {
        slot.users.set(slot.users.get() - 1);
        slot.slow_users.set(slot.slow_users.get() - usize::from(slow));
        slot.exclusive.set(false);
        if slot.users.get() == 0 && !slot.removed.get() {
            self.counts.available.fetch_add(1, Ordering::Relaxed);
            let connection = &slot.connection;
            let fit = connection.is_idle() && !connection.is_closed();
            if !fit || slot.opened + self.options.max_lifetime < slot.last_activity.get() {
                self.remove(|other| Rc::ptr_eq(other, slot));
            }
            // A new connection would fail as well.
            if let Some(error) = connection.unreachable()
                && !self.is_reachable()
            {
                self.fail_waiters(&error);
            }
        }
        if slot.users.get() == 0 && slot.needs_reset.take() {
            slot.connection.ensure(&self.reset);
        }
        if !self.waiters.borrow().is_empty() {
            self.dispatch();
        }
    }

    fn sweep(self: &Rc<Self>) {
        let now = Instant::now();
        self.slots.borrow().iter().for_each(|slot| slot.track_silence());
        self.close_unresponsive(|slot| slot.limit.get().map(|limit| limit + TIMEOUT_MARGIN));
        let Options { max_lifetime, max_idletime, .. } = self.options;
        // One connection stays, however idle, for the first request after a pause.
        let first = self.slots.borrow().first().map(Rc::clone);
        self.remove(|slot| {
            let idle = slot.last_activity.get() + max_idletime < now
                && !first.as_ref().is_some_and(|first| Rc::ptr_eq(first, slot));
            slot.connection.is_closed() || slot.users.get() == 0 && (slot.opened + max_lifetime < now || idle)
        });
        self.dispatch();
    }

    /// Closes connections unresponsive for longer than `limit`.
    fn close_unresponsive(&self, limit: impl Fn(&Slot) -> Option<Duration>) {
        for slot in self.slots.borrow().iter() {
            let (_, silence) = slot.silence.get();
            if limit(slot).is_some_and(|limit| silence >= limit) {
                // The server may be alive but slow: cancel the statement with the connection.
                if !slot.is_committing() {
                    let cancel = slot.connection.cancel();
                    tokio::task::spawn_local(async move { drop(cancel.await) });
                }
                slot.connection.give_up(DatabaseError::Stalled(silence));
            }
        }
    }

    fn remove(&self, expired: impl Fn(&Rc<Slot>) -> bool) {
        self.slots.borrow_mut().retain(|slot| {
            let stays = !expired(slot);
            if !stays {
                self.counts.open.fetch_sub(1, Ordering::Relaxed);
                slot.removed.set(true);
                if slot.users.get() == 0 {
                    self.counts.available.fetch_sub(1, Ordering::Relaxed);
                }
            }
            stays
        });
    }
}

impl Slot {
    /// Tracks how long the connection is unresponsive. Counts sweeps, so that requests read no clock.
    fn track_silence(&self) {
        let heard = self.connection.heard();
        let (before, silence) = self.silence.get();
        let waiting = self.connection.in_flight() > 0 && heard == before;
        self.silence.set((heard, if waiting { silence + SWEEP_INTERVAL } else { Duration::ZERO }));
    }

    /// Sets the timeout of the statements in flight; on a shared connection the longest applies.
    fn set_timeout(&self, limit: Option<Duration>, exclusive: bool) {
        let limit = if exclusive { limit } else { self.limit.get().zip(limit).map(|(a, b)| a.max(b)) };
        self.limit.set(limit);
    }

    /// Whether a commit is in flight: a cancel would not undo it, but would end the wait for a synchronous standby.
    fn is_committing(&self) -> bool {
        self.committing.get() || self.connection.is_committing()
    }

    /// Whether a fast statement may be pipelined behind those in flight.
    fn accepts_shared(&self, now: Instant) -> bool {
        match self.users.get() {
            0 => true,
            users => {
                users < PIPELINE_DEPTH
                    && self.slow_users.get() == 0
                    && !self.exclusive.get()
                    && now.saturating_duration_since(self.last_activity.get()) < PIPELINE_TIMEOUT
            }
        }
    }
}
