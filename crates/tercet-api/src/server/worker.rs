//! The state that the requests of one thread share.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use tercet_observe::LogHandle;

use super::state::{Report, Shared};
use crate::auth::{Authenticator, CacheCounts};
use crate::config::database::RoleSettings;
use crate::pool::{Options, Pool};

/// A thread's connection pool, token cache and log handle, and the state shared by all threads.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) pool: Pool,
    pub(super) authenticator: RefCell<Authenticator>,
    pub(super) log: LogHandle,
    /// The token cache counts that are already in the metrics.
    counted: Cell<CacheCounts>,
    /// The login role's settings when the pool's connections were made.
    login: RefCell<Option<RoleSettings>>,
}

impl Worker {
    /// A worker whose pool has no connections yet.
    pub(super) fn new(shared: Arc<Shared>, options: Options, log: LogHandle) -> Self {
        let monitor = Arc::clone(&shared);
        let pool = Pool::new(options, Arc::clone(&shared.pools), move |error| {
            monitor.report(Report::Unreachable(error.to_string()));
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

    /// Applies new settings: statements are prepared again; if the login role's settings changed, connections are
    /// replaced.
    pub(super) fn apply_settings(&self) {
        let settings = self.shared.settings.load();
        let config = &settings.config;
        let login = config.role_settings.get(config.db_uri.user.as_str()).cloned().unwrap_or_default();
        if self.login.replace(Some(login.clone())).is_some_and(|before| before != login) {
            self.pool.replace_connections();
        } else {
            self.pool.schema_changed();
        }
    }

    /// Adds the token cache's counts to the metrics.
    pub(super) fn count_tokens(&self) {
        let now = self.authenticator.borrow().counts();
        let before = self.counted.replace(now);
        if before != now {
            self.shared.metrics.add_tokens(before, now);
        }
    }
}
