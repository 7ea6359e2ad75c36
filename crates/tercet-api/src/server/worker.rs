//! What the requests of one thread share, besides what all threads do.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use tercet_observe::LogHandle;

use super::state::{Finding, Shared};
use crate::auth::{Authenticator, CacheCounts};
use crate::pool::{Options, Pool};

/// A thread's own connections to PostgreSQL, its token cache and its end of the log.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) pool: Pool,
    pub(super) authenticator: RefCell<Authenticator>,
    pub(super) log: LogHandle,
    /// What of the token cache's counts is in the metrics.
    counted: Cell<CacheCounts>,
}

impl Worker {
    /// A worker that has no connection yet.
    pub(super) fn new(shared: Arc<Shared>, options: Options, log: LogHandle) -> Self {
        let told = Arc::clone(&shared);
        let pool = Pool::new(options, Arc::clone(&shared.pools), move |error| {
            told.tell(Finding::Lost(error.to_string()));
        });
        Self { shared, pool, authenticator: RefCell::default(), log, counted: Cell::default() }
    }

    /// Brings the token cache's counts into the metrics.
    pub(super) fn count_tokens(&self) {
        let now = self.authenticator.borrow().counts();
        let before = self.counted.replace(now);
        if before != now {
            self.shared.metrics.add_tokens(before, now);
        }
    }
}
