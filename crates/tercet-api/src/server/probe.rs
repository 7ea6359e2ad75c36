//! The readiness probe: one query on the monitoring connection, shared by concurrent callers and cached for a short
//! time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tercet_postgres::Connection;
use tokio::sync::Notify;

/// The probe's timeout.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long a result stays valid: the limit of the query rate, whatever the number of callers.
const CACHED: Duration = Duration::from_millis(500);

/// Probes one database. Clones share the state.
#[derive(Clone, Debug, Default)]
pub(super) struct Probe(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    connection: RefCell<Option<Rc<Connection>>>,
    /// When the database last answered.
    answered: Cell<Option<Instant>>,
    /// When the query in flight was sent.
    sent: Cell<Option<Instant>>,
    /// Notified when a query completes.
    completed: Notify,
}

impl Probe {
    /// Uses this connection, which has just answered, from now on.
    pub(super) fn use_connection(&self, connection: &Rc<Connection>) {
        *self.0.connection.borrow_mut() = Some(Rc::clone(connection));
        self.0.answered.set(Some(Instant::now()));
        self.0.sent.set(None);
        self.0.completed.notify_waiters();
    }

    /// Waits for the result of a probe.
    ///
    /// # Errors
    /// There is no connection, or no answer within 1 s; the text is for the operator.
    pub(super) async fn round_trip(&self) -> Result<(), String> {
        if self.silence() < CACHED && self.0.sent.get().is_none() {
            return Ok(());
        }
        self.send();
        let Some(sent) = self.0.sent.get() else {
            return Err("there is no connection to the database".to_owned());
        };
        let completed = self.0.completed.notified();
        let answered = tokio::time::timeout(TIMEOUT.saturating_sub(sent.elapsed()), completed).await;
        if answered.is_ok() && self.0.answered.get().is_some_and(|answered| answered >= sent) {
            Ok(())
        } else {
            Err(format!("the database has not answered for {:.1} s", self.silence().as_secs_f64()))
        }
    }

    /// Sends a query unless one is in flight.
    pub(super) fn send(&self) {
        let Some(connection) = self.0.connection.borrow().clone() else { return };
        if self.0.sent.get().is_some() {
            return;
        }
        self.0.sent.set(Some(Instant::now()));
        let inner = Rc::clone(&self.0);
        tokio::task::spawn_local(async move {
            let answered = connection.query(&"select 1".into()).await.is_ok();
            if !inner.connection.borrow().as_ref().is_some_and(|now| Rc::ptr_eq(now, &connection)) {
                return;
            }
            inner.sent.set(None);
            if answered {
                inner.answered.set(Some(Instant::now()));
            }
            inner.completed.notify_waiters();
        });
    }

    /// The time since the database last answered.
    pub(super) fn silence(&self) -> Duration {
        self.0.answered.get().map_or(Duration::MAX, |answered| answered.elapsed())
    }

    /// How long the query in flight has been running; zero if there is none.
    pub(super) fn waiting(&self) -> Duration {
        self.0.sent.get().map_or(Duration::ZERO, |sent| sent.elapsed())
    }
}
