//! A request's lease of a connection, and its cleanup when the request is cancelled.

use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tercet_postgres::{DatabaseError, Exchange, Results, Statement};

use super::{Inner, LeaseMode, SessionState, Slot, reset};

/// A connection, or a pipeline slot of a shared one. Dropping it returns the connection; dropping it with an exchange
/// in flight cancels the statement unless that could hit another request's.
///
/// The only way to send statements. Ensures that no request uses a session which another may have changed: see
/// `reset`.
pub struct Lease(Option<Granted>);

struct Granted {
    pool: Rc<Inner>,
    slot: Rc<Slot>,
    mode: LeaseMode,
    slow: bool,
    since: Instant,
    /// Whether statements are parsed again instead of using prepared ones.
    reparse: bool,
    /// The exchange in flight.
    in_flight: Option<Exchange>,
    /// Whether the session may have changed since its last reset.
    changed: bool,
    /// The reset in flight.
    reset: Option<Exchange>,
}

impl Lease {
    pub(super) fn new(pool: Rc<Inner>, slot: Rc<Slot>, mode: LeaseMode, slow: bool, since: Instant) -> Self {
        Self(Some(Granted {
            pool,
            slot,
            mode,
            slow,
            since,
            reparse: false,
            in_flight: None,
            changed: false,
            reset: None,
        }))
    }

    /// Runs statements up to one Sync, as [`Connection::exchange`](tercet_postgres::Connection::exchange). On a
    /// shared connection a reset follows in the same write if it is [needed](LeaseMode::Shared).
    ///
    /// # Errors
    /// PostgreSQL reported an error, or the connection was lost.
    pub async fn exchange<'a>(
        &mut self,
        statements: impl IntoIterator<Item = &'a Statement>,
    ) -> Result<Results, DatabaseError> {
        self.granted().send(statements);
        self.answer().await
    }

    /// Like [`Lease::exchange`], for the last exchange of a transaction: a reset follows in the same write.
    ///
    /// # Errors
    /// PostgreSQL reported an error, or the connection was lost.
    pub async fn conclude<'a>(
        &mut self,
        statements: impl IntoIterator<Item = &'a Statement>,
    ) -> Result<Results, DatabaseError> {
        let granted = self.granted();
        granted.send(statements);
        granted.reset_if_changed();
        self.answer().await
    }

    /// Commits, with a reset in the same write. A commit in flight is not cancelled, since that would not undo it.
    ///
    /// # Errors
    /// PostgreSQL reported an error, or the connection was lost.
    pub async fn commit(&mut self) -> Result<(), DatabaseError> {
        self.granted().slot.committing.set(true);
        let committed = self.conclude([&"commit".into()]).await;
        self.granted().slot.committing.set(false);
        committed.map(drop)
    }

    async fn answer(&mut self) -> Result<Results, DatabaseError> {
        let granted = self.granted();
        let Some(exchange) = &mut granted.in_flight else { return Err(DatabaseError::Closed) };
        let answer = exchange.await;
        granted.in_flight = None;
        let now = Instant::now();
        if let LeaseMode::Shared(key, _) = granted.mode {
            // Time spent behind other requests' statements does not count.
            let began = granted.slot.last_activity.get().max(granted.since);
            granted.pool.latencies.borrow_mut().record(key, now.saturating_duration_since(began));
        }
        granted.slot.last_activity.set(now);
        // The statements that would have left nothing behind may be those that PostgreSQL has skipped.
        granted.changed |= answer.is_err() && granted.mode.is_exclusive() && granted.reset.is_none();
        if answer.as_ref().err().is_none_or(|error| error.server().is_some()) {
            granted.pool.answered.set(now);
        }
        // A prepared statement is gone or does not match the schema.
        if let Err(error) = &answer
            && error.is_of_prepared()
            && matches!(error.code(), Some("26000" | "0A000"))
        {
            granted.slot.connection.forget_statements();
        }
        answer
    }

    /// The effect that the statements are expected to have on the session.
    pub fn session_state(&mut self) -> SessionState {
        *self.granted().mode.state()
    }

    /// Expects that statements may change the session, although the lease was asked for those that leave it
    /// untouched: the proof is outdated.
    pub fn expect_changes(&mut self) {
        *self.granted().mode.state() = SessionState::MayChange;
    }

    /// Sets the statement timeout PostgreSQL enforces; `None` if there is none. An unresponsive connection is closed
    /// some time after it.
    pub fn set_timeout(&mut self, limit: Option<Duration>) {
        let granted = self.granted();
        granted.slot.set_timeout(limit, granted.slot.users.get() == 1);
    }

    /// Parses all statements again: prepared ones do not match the schema, or are gone.
    pub fn reparse_statements(&mut self) {
        self.granted().reparse = true;
    }

    /// Whether no transaction is open after the last exchange.
    pub fn is_idle(&self) -> bool {
        self.0.as_ref().is_some_and(|granted| granted.slot.connection.is_idle())
    }

    fn granted(&mut self) -> &mut Granted {
        self.0.as_mut().expect("only drop takes it")
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lease").field(&self.0.as_ref().map(|granted| granted.mode)).finish()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(granted) = self.0.take() else { return };
        let open = granted.mode.is_exclusive() && !granted.slot.connection.is_idle();
        if granted.in_flight.is_some() || granted.changed || granted.reset.is_some() || open {
            tokio::task::spawn_local(granted.finish());
        } else {
            granted.release();
        }
    }
}

impl Granted {
    fn send<'a>(&mut self, statements: impl IntoIterator<Item = &'a Statement>) {
        let connection = &self.slot.connection;
        if *self.mode.state() == SessionState::MayChange {
            self.changed = true;
            if self.slot.has_drawn.take() {
                connection.ensure(reset::SEQUENCES);
            }
        } else if self.mode.is_exclusive() {
            self.slot.has_drawn.set(true);
        }
        self.in_flight = Some(if self.reparse {
            connection.exchange_anew(statements)
        } else {
            connection.exchange(statements)
        });
        if !self.mode.is_exclusive() {
            self.reset_if_changed();
        }
    }

    fn reset_if_changed(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.reset = Some(self.slot.connection.essential(&self.pool.reset));
        }
    }

    /// Rolls back and resets the session, so that the connection can be leased exclusively again.
    async fn finish(mut self) {
        if let Some(mut exchange) = self.in_flight.take() {
            let mut ended = false;
            let answered = self.slot.connection.in_flight() <= usize::from(self.reset.is_some());
            let too_late = answered || self.slot.is_committing();
            if self.slot.users.get() == 1 && !too_late {
                // No other request is or gets on it, so the cancel hits this statement, its reset (then the
                // connection is closed), or nothing.
                self.slot.exclusive.set(true);
                // If the cancel fails, the statement runs until its timeout.
                let mut cancel = pin!(self.slot.connection.cancel());
                tokio::select! {
                    _ = &mut exchange => ended = true,
                    _ = &mut cancel => {}
                }
                // A cancel in progress could hit the connection's next statement, unless there is none.
                if ended && !self.slot.connection.is_closed() {
                    let _ = cancel.await;
                }
            }
            if !ended {
                let _ = exchange.await;
            }
            self.slot.committing.set(false);
            // The result is unknown.
            self.changed |= self.mode.is_exclusive() && self.reset.is_none();
        }
        if self.mode.is_exclusive() && !self.slot.connection.is_idle() && self.reset.is_none() {
            // If the rollback fails, the connection is discarded on release.
            let _ = self.slot.connection.query(&"rollback".into()).await;
        }
        self.reset_if_changed();
        if let Some(reset) = self.reset.take() {
            // If the reset fails, the connection is closed and discarded on release.
            let _ = reset.await;
        }
        self.slot.last_activity.set(Instant::now());
        self.release();
    }

    fn release(self) {
        self.pool.release(&self.slot, self.slow);
    }
}
