//! The use of a connection by one request, and what becomes of the connection when the request is dropped
//! in the middle of it.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Inner, Need, Slot};
use crate::postgres::{DatabaseError, Exchange, Results, Statement};

/// Settings, temporary tables and locks that outlive a transaction.
const WIPE: &str = "reset all; discard temporary; select pg_advisory_unlock_all(); ";

/// A connection, or a place on a shared one. Dropping it gives it back; dropping it while an exchange is
/// under way cancels that where it can hit nobody else.
pub struct Lease(Option<Held>);

struct Held {
    pool: Rc<Inner>,
    slot: Rc<Slot>,
    need: Need,
    slow: bool,
    granted: Instant,
    wipe: bool,
    /// Whether statements are parsed anew.
    anew: bool,
    in_flight: Option<Exchange>,
}

impl Lease {
    pub(super) fn new(pool: Rc<Inner>, slot: Rc<Slot>, need: Need, slow: bool, granted: Instant) -> Self {
        Self(Some(Held { pool, slot, need, slow, granted, wipe: false, anew: false, in_flight: None }))
    }

    /// Runs statements up to one Sync, as [`Connection::exchange`](crate::postgres::Connection::exchange).
    ///
    /// # Errors
    /// PostgreSQL refused, or the connection broke.
    pub async fn exchange<'a>(
        &mut self,
        statements: impl IntoIterator<Item = &'a Statement>,
    ) -> Result<Results, DatabaseError> {
        let held = self.0.as_mut().expect("only drop takes it");
        let connection = &held.slot.connection;
        let exchange = held.in_flight.insert(if held.anew {
            connection.exchange_anew(statements)
        } else {
            connection.exchange(statements)
        });
        let answer = exchange.await;
        held.in_flight = None;
        let now = Instant::now();
        if let Need::Shared(key) = held.need {
            // What stood before on the connection is not this statement's fault.
            let began = held.slot.moved.get().max(held.granted);
            held.pool.paces.borrow_mut().learn(key, now.saturating_duration_since(began));
        }
        held.slot.moved.set(now);
        // What was prepared is gone, or does not fit the schema any more.
        if let Err(error) = &answer
            && matches!(error.code(), Some("26000" | "0A000"))
        {
            held.slot.connection.forget_statements();
        }
        answer
    }

    /// Says how long what is run may take before PostgreSQL ends it; `None` for ever. A connection that then says nothing
    /// is given up.
    pub fn wait_at_most(&mut self, limit: Option<Duration>) {
        let held = self.0.as_mut().expect("only drop takes it");
        held.slot.wait_at_most(limit, held.slot.users.get() == 1);
    }

    /// Has all statements parsed anew: what was prepared of them does not fit the schema any more.
    pub fn parse_anew(&mut self) {
        self.0.as_mut().expect("only drop takes it").anew = true;
    }

    /// Has what a transaction can leave behind on a connection wiped away when this is given back.
    pub fn wipe_afterwards(&mut self) {
        self.0.as_mut().expect("only drop takes it").wipe = true;
    }

    /// Whether the last exchange left no transaction open.
    pub fn is_idle(&self) -> bool {
        self.0.as_ref().is_some_and(|held| held.slot.connection.is_idle())
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
        if held.in_flight.is_some() || open {
            tokio::task::spawn_local(held.abandon());
        } else {
            held.release();
        }
    }
}

impl Held {
    /// Brings the connection back to where somebody else can use it.
    async fn abandon(mut self) {
        if let Some(exchange) = self.in_flight.take() {
            if self.slot.users.get() == 1 {
                // Nobody else is on it, and nobody gets on it, so the cancel hits the right one or none.
                self.slot.alone.set(true);
                // A cancel that fails leaves the statement to its timeout.
                let _ = self.slot.connection.cancel().await;
            }
            let _ = exchange.await;
        }
        if self.need == Need::Alone && !self.slot.connection.is_idle() {
            // A connection that cannot even do this is discarded on release.
            let _ = self.slot.connection.query(&"rollback".into()).await;
        }
        self.slot.moved.set(Instant::now());
        self.release();
    }

    fn release(self) {
        if self.wipe {
            // Nobody waits for it: it goes out in front of the next transaction.
            self.slot.connection.ensure(&format!("{WIPE}{}", self.pool.options.session));
        }
        self.pool.release(&self.slot, self.slow);
    }
}
