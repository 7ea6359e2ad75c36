//! What the requests of one thread share, besides what all threads do.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use tercet_observe::LogHandle;

use super::state::{Finding, Shared};
use crate::auth::{Authenticator, CacheCounts};
use crate::config::database::RoleSettings;
use crate::pool::{Options, Pool};

/// A thread's own connections to PostgreSQL, its token cache and its end of the log.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) pool: Pool,
    pub(super) authenticator: RefCell<Authenticator>,
    pub(super) log: LogHandle,
    /// What of the token cache's counts is in the metrics.
    counted: Cell<CacheCounts>,
    /// What the login role had set for itself when its connections were made.
    login: RefCell<Option<RoleSettings>>,
}

impl Worker {
    /// A worker that has no connection yet.
    pub(super) fn new(shared: Arc<Shared>, options: Options, log: LogHandle) -> Self {
        let told = Arc::clone(&shared);
        let pool = Pool::new(options, Arc::clone(&shared.pools), move |error| {
            told.tell(Finding::Lost(error.to_string()));
        });
        Self {
            shared,
            pool,
            authenticator: RefCell::default(),
            log,
            counted: Cell::default(),
            login: RefCell::default(),
        }
    }

    /// Follows a new schema or configuration: statements are prepared anew, and where the login role has set
    /// something else for itself, connections are made anew.
    pub(super) fn follow(&self) {
        let settings = self.shared.settings.load();
        let config = &settings.config;
        let login = config.role_settings.get(config.db_uri.user.as_str()).cloned().unwrap_or_default();
        if self.login.replace(Some(login.clone())).is_some_and(|before| before != login) {
            self.pool.renew();
        } else {
            self.pool.schema_changed();
        }
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
