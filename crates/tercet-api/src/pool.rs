//! One thread's connections: few, shared by many requests, and handed out alone where a request needs that.
//!
//! Requests share a connection by following each other on it, each a transaction of its own; PostgreSQL
//! answers them in order, so only statements that have proved quick stand behind each other. The pool knows
//! nothing of what is sent.

mod latency;
mod lease;
mod wipe;

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

/// Requests that may stand on one connection.
const DEPTH: usize = 16;
/// A connection that has not answered for this long is not given more.
const STALL: Duration = Duration::from_millis(20);
/// How often connections are looked through for those that are too old, too idle or dead.
const SWEEP: Duration = Duration::from_secs(1);
/// How much longer than a statement may run an answer is waited for, before the connection is given up.
const MARGIN: Duration = Duration::from_secs(5);
/// A server that has answered on another connection within this long can be reached.
const SILENCE: Duration = Duration::from_secs(1);
/// What a connection may say nothing for while the database cannot be reached.
const OUTAGE: Duration = Duration::from_secs(2);

/// What a pool is to be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to.
    pub target: Arc<Target>,
    /// The most connections.
    pub size: usize,
    /// How long a request waits for one.
    pub acquisition_timeout: Duration,
    /// How long one may be unused, unless it is the only one.
    pub max_idletime: Duration,
    /// How old one may get.
    pub max_lifetime: Duration,
    /// Whether statements are prepared.
    pub prepare: bool,
    /// Commands that every connection is set up with, and again whenever it has been wiped.
    pub session: String,
}

/// What all pools of a process count together.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections that are open.
    pub open: AtomicI64,
    /// Connections nobody uses.
    pub available: AtomicI64,
    /// Requests waiting for a connection.
    pub waiting: AtomicI64,
    /// Requests that waited in vain.
    pub timeouts: AtomicU64,
}

/// How a connection is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Together with others, for one exchange of a statement of this [key](Pool::key). Unless it leaves the session
    /// untouched, it is followed by a wipe in the same write, before anybody else's.
    Shared(u64, SessionState),
    /// Alone, for a transaction of several exchanges. Nobody gets the connection before it is wiped.
    Alone,
}

/// What statements do to the session they run in beyond their transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Nothing, as is proved: they run no code but PostgreSQL's own, and of that nothing volatile.
    Untouched,
    /// Settings, locks, cursors, temporary tables, … may stay.
    MayChange,
}

/// The connections of one thread.
#[derive(Clone, Debug)]
pub struct Pool(Rc<Inner>);

struct Inner {
    options: Options,
    counts: Arc<Counts>,
    /// Told when no connection is left and none can be made.
    lost: Box<dyn Fn(&DatabaseError)>,
    slots: RefCell<Vec<Rc<Slot>>>,
    waiters: RefCell<VecDeque<Waiter>>,
    opening: Cell<usize>,
    latencies: RefCell<LatencyEstimates>,
    /// The commands of a [`wipe`].
    wipe: String,
    /// When PostgreSQL last answered on any connection.
    answered: Cell<Instant>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("options", &self.options).finish_non_exhaustive()
    }
}

struct Slot {
    connection: Connection,
    opened: Instant,
    /// When the connection last answered, or was last asked something while it had nothing to do.
    moved: Cell<Instant>,
    users: Cell<usize>,
    /// Of the users those that may take long.
    slow_users: Cell<usize>,
    alone: Cell<bool>,
    /// To be wiped whatever is done on it next.
    suspect: Cell<bool>,
    /// Whether a commit is under way, alone.
    committing: Cell<bool>,
    /// Not in the pool any more: nobody gets it again.
    retired: Cell<bool>,
    /// What had been heard on the connection when it was last looked at, and for how long there has been nothing more
    /// while there was something to wait for.
    silence: Cell<(u64, Duration)>,
    /// How long what runs on it may take; `None` for ever.
    limit: Cell<Option<Duration>>,
}

struct Waiter {
    need: Need,
    grant: oneshot::Sender<Result<Lease, DatabaseError>>,
}

impl Pool {
    /// An empty pool. `lost` is told when no connection is left and none can be made.
    pub fn new(options: Options, counts: Arc<Counts>, lost: impl Fn(&DatabaseError) + 'static) -> Self {
        let pool = Self(Rc::new(Inner {
            wipe: wipe::commands(&options.session),
            options,
            counts,
            lost: Box::new(lost),
            slots: RefCell::default(),
            waiters: RefCell::default(),
            opening: Cell::new(0),
            answered: Cell::new(Instant::now()),
            latencies: RefCell::default(),
        }));
        let inner = Rc::downgrade(&pool.0);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(inner) = inner.upgrade() else { return };
                inner.sweep();
            }
        });
        pool
    }

    /// What identifies a statement for [`Need::Shared`].
    pub fn key(sql: &str) -> u64 {
        latency::key(sql)
    }

    /// A connection, as soon as one is free.
    ///
    /// # Errors
    /// None became free in time, or none can be made.
    pub async fn lease(&self, need: Need) -> Result<Lease, StatementError> {
        if self.0.waiters.borrow().is_empty()
            && let Some(lease) = self.0.grant(need)
        {
            return Ok(lease);
        }
        let (grant, granted) = oneshot::channel();
        self.0.waiters.borrow_mut().push_back(Waiter { need, grant });
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

    /// Gives nobody a connection that is open now: their sessions remember what is not there any more. Who has one
    /// keeps it.
    pub fn renew(&self) {
        self.0.remove(|_| true);
    }

    /// Gives up connections that say nothing while somebody waits: the database cannot be reached.
    pub fn close_silent(&self) {
        self.0.close_silent(|_| Some(OUTAGE));
    }

    /// Prepares everything anew, and wipes every connection: the schema has changed, and what was proved of it may
    /// have been wrong for a while.
    pub fn schema_changed(&self) {
        for slot in self.0.slots.borrow().iter() {
            slot.connection.forget_statements();
            if slot.users.get() == 0 {
                slot.connection.ensure(&self.0.wipe);
            } else {
                slot.suspect.set(true);
            }
        }
    }
}

impl Inner {
    /// A connection that is free for this need right now.
    fn grant(self: &Rc<Self>, mut need: Need) -> Option<Lease> {
        self.remove(|slot| slot.connection.is_closed());
        let slots = self.slots.borrow();
        let now = Instant::now();
        let (slot, slow) = match need {
            Need::Alone => (slots.iter().rev().find(|slot| slot.users.get() == 0)?, true),
            Need::Shared(key, state) => {
                let quick = self.latencies.borrow().is_quick(key);
                let slot = match state {
                    SessionState::Untouched if quick => slots.iter().find(|slot| slot.takes_another(now)),
                    // A wipe looks through what is prepared: the less that is, the better.
                    SessionState::MayChange if quick => {
                        slots.iter().rev().find(|slot| slot.takes_another(now))
                    }
                    _ => slots.iter().rev().find(|slot| slot.users.get() == 0),
                };
                (slot?, !quick)
            }
        };
        if slot.suspect.take()
            && let Need::Shared(_, state) = &mut need
        {
            *state = SessionState::MayChange;
        }
        if slot.users.get() == 0 {
            slot.moved.set(now);
            self.counts.available.fetch_sub(1, Ordering::Relaxed);
        }
        slot.users.set(slot.users.get() + 1);
        slot.slow_users.set(slot.slow_users.get() + usize::from(slow));
        slot.alone.set(need == Need::Alone);
        Some(Lease::new(Rc::clone(self), Rc::clone(slot), need, slow, now))
    }

    /// Gives what is free to those who wait, in their order, and opens connections for the rest.
    fn dispatch(self: &Rc<Self>) {
        loop {
            let Some(need) = self.waiters.borrow().front().map(|waiter| waiter.need) else { return };
            let gone = self.waiters.borrow().front().is_some_and(|waiter| waiter.grant.is_closed());
            let lease = if gone { None } else { self.grant(need) };
            if lease.is_none() && !gone {
                break;
            }
            let waiter = self.waiters.borrow_mut().pop_front();
            if let (Some(waiter), Some(lease)) = (waiter, lease) {
                // Whoever has gone in this moment gives it back by dropping it.
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
                    moved: Cell::new(now),
                    users: Cell::new(0),
                    slow_users: Cell::new(0),
                    alone: Cell::new(false),
                    suspect: Cell::new(false),
                    committing: Cell::new(false),
                    retired: Cell::new(false),
                    silence: Cell::default(),
                    limit: Cell::new(None),
                }));
                self.dispatch();
            }
            // While there are connections, whoever waits goes on waiting for one of them.
            Err(error) if self.slots.borrow().is_empty() && self.opening.get() == 0 => {
                for waiter in self.waiters.take() {
                    let _ = waiter.grant.send(Err(error.copy()));
                }
                (self.lost)(&error);
            }
            Err(_) => {}
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
        slot.alone.set(false);
        if slot.users.get() == 0 && !slot.retired.get() {
            self.counts.available.fetch_add(1, Ordering::Relaxed);
            let connection = &slot.connection;
            let fit = connection.is_idle() && !connection.is_closed();
            if !fit || slot.opened + self.options.max_lifetime < slot.moved.get() {
                self.remove(|other| Rc::ptr_eq(other, slot));
            }
            // Nobody has been answered lately, on no connection: a new one would fail as well.
            if let Some(error) = connection.unreachable()
                && self.answered.get().elapsed() >= SILENCE
            {
                for waiter in self.waiters.take() {
                    let _ = waiter.grant.send(Err(error.copy()));
                }
            }
        }
        if slot.users.get() == 0 && slot.suspect.take() {
            slot.connection.ensure(&self.wipe);
        }
        if !self.waiters.borrow().is_empty() {
            self.dispatch();
        }
    }

    fn sweep(self: &Rc<Self>) {
        let now = Instant::now();
        self.slots.borrow().iter().for_each(|slot| slot.listen());
        self.close_silent(|slot| slot.limit.get().map(|limit| limit + MARGIN));
        let Options { max_lifetime, max_idletime, .. } = self.options;
        // One stays however idle it is: whoever comes first after a pause need not wait for a new one.
        let first = self.slots.borrow().first().map(Rc::clone);
        self.remove(|slot| {
            let idle = slot.moved.get() + max_idletime < now
                && !first.as_ref().is_some_and(|first| Rc::ptr_eq(first, slot));
            slot.connection.is_closed() || slot.users.get() == 0 && (slot.opened + max_lifetime < now || idle)
        });
        self.dispatch();
    }

    /// Gives up connections that have been silent for as long as `limit` says.
    fn close_silent(&self, limit: impl Fn(&Slot) -> Option<Duration>) {
        for slot in self.slots.borrow().iter() {
            let (_, silence) = slot.silence.get();
            if limit(slot).is_some_and(|limit| silence >= limit) {
                // It may be alive and only slow: then the statement ends with the connection.
                if !slot.is_committing() {
                    let cancel = slot.connection.cancel();
                    tokio::task::spawn_local(async move { drop(cancel.await) });
                }
                slot.connection.give_up(DatabaseError::Stalled(silence));
            }
        }
    }

    fn remove(&self, unfit: impl Fn(&Rc<Slot>) -> bool) {
        self.slots.borrow_mut().retain(|slot| {
            let stays = !unfit(slot);
            if !stays {
                self.counts.open.fetch_sub(1, Ordering::Relaxed);
                slot.retired.set(true);
                if slot.users.get() == 0 {
                    self.counts.available.fetch_sub(1, Ordering::Relaxed);
                }
            }
            stays
        });
    }
}

impl Slot {
    /// Notes for how long nothing has been heard. No clock is looked at on a request's way: [`SWEEP`] is.
    fn listen(&self) {
        let heard = self.connection.heard();
        let (before, silence) = self.silence.get();
        let waits = self.connection.in_flight() > 0 && heard == before;
        self.silence.set((heard, if waits { silence + SWEEP } else { Duration::ZERO }));
    }

    /// Notes how long what runs on the connection may take; with others on it, whoever may take longest decides.
    fn wait_at_most(&self, limit: Option<Duration>, alone: bool) {
        let limit = if alone { limit } else { self.limit.get().zip(limit).map(|(a, b)| a.max(b)) };
        self.limit.set(limit);
    }

    /// Whether what runs is being committed: a cancel would not undo it, but break off the wait for a synchronous standby.
    fn is_committing(&self) -> bool {
        self.committing.get() || self.connection.is_committing()
    }

    /// Whether a quick statement may stand behind those that are here.
    fn takes_another(&self, now: Instant) -> bool {
        match self.users.get() {
            0 => true,
            users => {
                users < DEPTH
                    && self.slow_users.get() == 0
                    && !self.alone.get()
                    && now.saturating_duration_since(self.moved.get()) < STALL
            }
        }
    }
}
