//! Whether the database answers: a real round trip on the connection that hears of changes, shared by all who ask at the
//! same time, and by those who ask right after each other.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tercet_postgres::Connection;
use tokio::sync::Notify;

/// How long a round trip may take for the database to be there.
const BOUND: Duration = Duration::from_secs(1);
/// How long an answer counts. Whatever the number of those who ask, the database is asked no more often.
const FRESH: Duration = Duration::from_millis(500);

/// Asks one database. Clones are the same probe.
#[derive(Clone, Debug, Default)]
pub(super) struct Probe(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    connection: RefCell<Option<Rc<Connection>>>,
    /// When the database last answered.
    answered: Cell<Option<Instant>>,
    /// When the round trip began that is under way.
    asked: Cell<Option<Instant>>,
    /// Told when one ends.
    settled: Notify,
}

impl Probe {
    /// Asks on this connection from now on; it has just answered.
    pub(super) fn ask_on(&self, connection: &Rc<Connection>) {
        *self.0.connection.borrow_mut() = Some(Rc::clone(connection));
        self.0.answered.set(Some(Instant::now()));
        self.0.asked.set(None);
        self.0.settled.notify_waiters();
    }

    /// One round trip.
    ///
    /// # Errors
    /// There is no answer within 1 s; the text says so.
    pub(super) async fn round_trip(&self) -> Result<(), String> {
        if self.silence() < FRESH && self.0.asked.get().is_none() {
            return Ok(());
        }
        self.ask();
        let Some(asked) = self.0.asked.get() else {
            return Err("there is no connection to the database".to_owned());
        };
        let settled = self.0.settled.notified();
        let answered = tokio::time::timeout(BOUND.saturating_sub(asked.elapsed()), settled).await;
        if answered.is_ok() && self.0.answered.get().is_some_and(|answered| answered >= asked) {
            Ok(())
        } else {
            Err(format!("the database has not answered for {:.1} s", self.silence().as_secs_f64()))
        }
    }

    /// Begins a round trip, unless one is under way.
    pub(super) fn ask(&self) {
        let Some(connection) = self.0.connection.borrow().clone() else { return };
        if self.0.asked.get().is_some() {
            return;
        }
        self.0.asked.set(Some(Instant::now()));
        let inner = Rc::clone(&self.0);
        tokio::task::spawn_local(async move {
            let answered = connection.query(&"select 1".into()).await.is_ok();
            if !inner.connection.borrow().as_ref().is_some_and(|now| Rc::ptr_eq(now, &connection)) {
                return;
            }
            inner.asked.set(None);
            if answered {
                inner.answered.set(Some(Instant::now()));
            }
            inner.settled.notify_waiters();
        });
    }

    /// How long ago the database last answered.
    pub(super) fn silence(&self) -> Duration {
        self.0.answered.get().map_or(Duration::MAX, |answered| answered.elapsed())
    }

    /// How long a round trip has been under way.
    pub(super) fn waiting(&self) -> Duration {
        self.0.asked.get().map_or(Duration::ZERO, |asked| asked.elapsed())
    }
}
