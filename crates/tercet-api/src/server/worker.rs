//! The state that the requests of one thread share.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use bytes::BytesMut;
use http::HeaderValue;
use tercet_observe::LogHandle;
use tercet_observe::stages::Stages;

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
    /// The memory for values of the header with the stages.
    stages_values: RefCell<BytesMut>,
}

/// The most bytes of such a value: six numbers of at most ten digits, and five spaces.
const STAGES_LENGTH: usize = 65;

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
            stages_values: RefCell::new(BytesMut::with_capacity(STAGES_LENGTH * 64)),
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

    /// The value of the header with the stages of a request. Values share an allocation.
    pub(super) fn stages_value(&self, stages: &Stages) -> Option<HeaderValue> {
        let mut buffer = self.stages_values.borrow_mut();
        buffer.reserve(STAGES_LENGTH);
        stages.push(&mut *buffer);
        HeaderValue::from_maybe_shared(buffer.split().freeze()).ok()
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
