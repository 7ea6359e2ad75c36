//! The use of a connection by one request, and what becomes of the connection when the request is dropped
//! in the middle of it.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tercet_postgres::{DatabaseError, Exchange, Results, Statement};

use super::{Inner, Need, SessionState, Slot};

/// A connection, or a place on a shared one. Dropping it gives it back; dropping it while an exchange is
/// under way cancels that where it can hit nobody else.
///
/// It is the only way to send anything, and sees to it that nobody else's statements run in a session that may have
/// been changed: see `wipe`.
pub struct Lease(Option<Granted>);

struct Granted {
    pool: Rc<Inner>,
    slot: Rc<Slot>,
    need: Need,
    slow: bool,
    since: Instant,
    /// Whether statements are parsed anew.
    anew: bool,
    /// An exchange nobody has the answer of yet.
    in_flight: Option<Exchange>,
    /// Whether the session may have been changed since it was wiped.
    changed: bool,
    /// A wipe nobody has the answer of yet.
    wipe: Option<Exchange>,
}

impl Lease {
    pub(super) fn new(pool: Rc<Inner>, slot: Rc<Slot>, need: Need, slow: bool, since: Instant) -> Self {
        Self(Some(Granted {
            pool,
            slot,
            need,
            slow,
            since,
            anew: false,
            in_flight: None,
            changed: false,
            wipe: None,
        }))
    }

    /// Runs statements up to one Sync, as [`Connection::exchange`](tercet_postgres::Connection::exchange). On a shared
    /// connection a wipe follows in the same write if one is [needed](Need::Shared).
    ///
    /// # Errors
    /// PostgreSQL refused, or the connection broke.
    pub async fn exchange<'a>(
        &mut self,
        statements: impl IntoIterator<Item = &'a Statement>,
    ) -> Result<Results, DatabaseError> {
        self.held().send(statements);
        self.answer().await
    }

    /// Like [`Lease::exchange`], for the last one of a transaction: a wipe follows in the same write.
    ///
    /// # Errors
    /// PostgreSQL refused, or the connection broke.
    pub async fn conclude<'a>(
        &mut self,
        statements: impl IntoIterator<Item = &'a Statement>,
    ) -> Result<Results, DatabaseError> {
        let held = self.held();
        held.send(statements);
        held.wipe_if_changed();
        self.answer().await
    }

    /// Commits, with a wipe in the same write. Once it is sent it is not cancelled: nothing would be undone.
    ///
    /// # Errors
    /// PostgreSQL refused, or the connection broke.
    pub async fn commit(&mut self) -> Result<(), DatabaseError> {
        self.held().slot.committing.set(true);
        let committed = self.conclude([&"commit".into()]).await;
        self.held().slot.committing.set(false);
        committed.map(drop)
    }

    async fn answer(&mut self) -> Result<Results, DatabaseError> {
        let held = self.held();
        let Some(exchange) = &mut held.in_flight else { return Err(DatabaseError::Closed) };
        let answer = exchange.await;
        held.in_flight = None;
        let now = Instant::now();
        if let Need::Shared(key, _) = held.need {
            // What stood before on the connection is not this statement's fault.
            let began = held.slot.moved.get().max(held.since);
            held.pool.latencies.borrow_mut().learn(key, now.saturating_duration_since(began));
        }
        held.slot.moved.set(now);
        if answer.as_ref().err().is_none_or(|error| error.server().is_some()) {
            held.pool.answered.set(now);
        }
        // What was prepared is gone, or does not fit the schema any more.
        if let Err(error) = &answer
            && error.is_of_prepared()
            && matches!(error.code(), Some("26000" | "0A000"))
        {
            held.slot.connection.forget_statements();
        }
        answer
    }

    /// Says how long what is run may take before PostgreSQL ends it; `None` for ever. A connection that then says nothing
    /// is given up.
    pub fn wait_at_most(&mut self, limit: Option<Duration>) {
        let held = self.held();
        held.slot.wait_at_most(limit, held.slot.users.get() == 1);
    }

    /// Has all statements parsed anew: what was prepared of them does not fit the schema any more, or is gone.
    pub fn parse_anew(&mut self) {
        self.held().anew = true;
    }

    /// Whether the last exchange left no transaction open.
    pub fn is_idle(&self) -> bool {
        self.0.as_ref().is_some_and(|held| held.slot.connection.is_idle())
    }

    fn held(&mut self) -> &mut Granted {
        self.0.as_mut().expect("only drop takes it")
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lease").field(&self.0.as_ref().map(|held| held.need)).finish()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(held) = self.0.take() else { return };
        let open = held.need == Need::Alone && !held.slot.connection.is_idle();
        if held.in_flight.is_some() || held.changed || held.wipe.is_some() || open {
            tokio::task::spawn_local(held.finish());
        } else {
            held.release();
        }
    }
}

impl Granted {
    fn send<'a>(&mut self, statements: impl IntoIterator<Item = &'a Statement>) {
        self.changed |= !matches!(self.need, Need::Shared(_, SessionState::Untouched));
        let connection = &self.slot.connection;
        self.in_flight = Some(if self.anew {
            connection.exchange_anew(statements)
        } else {
            connection.exchange(statements)
        });
        if matches!(self.need, Need::Shared(..)) {
            self.wipe_if_changed();
        }
    }

    fn wipe_if_changed(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.wipe = Some(self.slot.connection.essential(&self.pool.wipe));
        }
    }

    /// Brings the connection back to where another request can have it alone.
    async fn finish(mut self) {
        if let Some(exchange) = self.in_flight.take() {
            let answered = self.slot.connection.in_flight() <= usize::from(self.wipe.is_some());
            let too_late = answered || self.slot.is_committing();
            if self.slot.users.get() == 1 && !too_late {
                // Nobody else is on it, and nobody gets on it, so the cancel hits the right one, its wipe (then the
                // connection is closed), or none.
                self.slot.alone.set(true);
                // A cancel that fails leaves the statement to its timeout.
                let _ = self.slot.connection.cancel().await;
            }
            let _ = exchange.await;
            self.slot.committing.set(false);
        }
        if self.need == Need::Alone && !self.slot.connection.is_idle() && self.wipe.is_none() {
            // A connection that cannot even do this is discarded on release.
            let _ = self.slot.connection.query(&"rollback".into()).await;
        }
        self.wipe_if_changed();
        if let Some(wipe) = self.wipe.take() {
            // A connection on which it fails is closed, and discarded on release.
            let _ = wipe.await;
        }
        self.slot.moved.set(Instant::now());
        self.release();
    }

    fn release(self) {
        self.pool.release(&self.slot, self.slow);
    }
}
