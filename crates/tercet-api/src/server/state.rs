//! What all threads of a server share: the configuration and schema in force, whether the database is there,
//! and what is counted.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Notify, mpsc, oneshot};

use super::body::Budget;
use super::metrics::Metrics;
use crate::config::{Config, LogLevel};
use crate::plan::Policy;
use crate::pool::Counts;
use crate::schema::SchemaCache;

/// Shared by all threads; a request takes one look at each part.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: ArcSwap<Settings>,
    /// Set while the database cannot be reached.
    pub(super) outage: ArcSwapOption<Outage>,
    /// Notified whenever the settings or the outage are replaced.
    pub(super) replaced: Notify,
    pub(super) metrics: Metrics,
    pub(super) pools: Arc<Counts>,
    /// How much of requests' bodies is held.
    pub(super) bodies: Arc<Budget>,
    /// What threads find out about the database, for whoever keeps the server in step with it.
    pub(super) findings: mpsc::UnboundedSender<Finding>,
}

/// What a thread, or a probe, finds out about the database.
#[derive(Debug)]
pub(super) enum Finding {
    /// It cannot be reached; how.
    Lost(String),
    /// The schema has changed since it was loaded.
    Outdated,
    /// Types have changed that a request would write. It is told when the schema has been loaded since.
    Retyped(oneshot::Sender<()>),
}

impl Shared {
    /// Tells a finding. Nobody hears it when everything stops.
    pub(super) fn tell(&self, finding: Finding) {
        let _ = self.findings.send(finding);
    }

    /// The schema, loaded anew since it was `known`; `None` where that fails or takes too long.
    pub(super) async fn reloaded(&self, known: Option<&Arc<SchemaCache>>) -> Option<Arc<SchemaCache>> {
        let (sender, loaded) = oneshot::channel();
        self.tell(Finding::Retyped(sender));
        let longest = self.settings.load().config.db_pool_acquisition_timeout;
        tokio::time::timeout(longest, loaded).await.ok()?.ok()?;
        let fresh = self.settings.load().cache.clone()?;
        let is_new = known.is_none_or(|known| !Arc::ptr_eq(known, &fresh));
        is_new.then_some(fresh)
    }
}

impl Shared {
    /// The settings in force. Before the schema is loaded for the first time a request waits for that as long as
    /// it would for a connection, unless the database cannot be reached.
    pub(super) async fn settings(&self) -> Arc<Settings> {
        let settings = self.settings.load_full();
        if settings.cache.is_some() {
            return settings;
        }
        let first_load = async {
            loop {
                let mut replaced = std::pin::pin!(self.replaced.notified());
                replaced.as_mut().enable();
                let settings = self.settings.load_full();
                if settings.cache.is_some() || self.outage.load().is_some() {
                    return settings;
                }
                replaced.await;
            }
        };
        let longest = settings.config.db_pool_acquisition_timeout;
        tokio::time::timeout(longest, first_load).await.unwrap_or_else(|_| self.settings.load_full())
    }
}

/// What a request is answered by. Never changed, only replaced as a whole.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) config: Arc<Config>,
    pub(super) policy: Policy,
    /// Nothing before it is loaded for the first time.
    pub(super) cache: Option<Arc<SchemaCache>>,
}

/// The database cannot be reached.
#[derive(Debug)]
pub(super) struct Outage {
    pub(super) reason: String,
    /// When it is tried again.
    pub(super) retry: Instant,
}

impl Outage {
    /// `Retry-After` in whole seconds, at least one.
    pub(super) fn retry_after(&self) -> u64 {
        self.retry.saturating_duration_since(Instant::now()).as_secs() + 1
    }
}

impl Settings {
    pub(super) fn new(config: Arc<Config>, cache: Option<Arc<SchemaCache>>) -> Self {
        let policy = Policy {
            max_rows: config.db_max_rows.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX)),
            aggregates: config.db_aggregates_enabled,
            execution_plans: config.db_plan_enabled,
            legacy_target_names: config.url_use_legacy_target_names,
        };
        Self { config, policy, cache }
    }
}

/// Whether a request answered with `status` is logged.
pub(super) fn logs(level: LogLevel, status: u16) -> bool {
    match level {
        LogLevel::Critical => false,
        LogLevel::Error => status >= 500,
        LogLevel::Warn => status >= 400,
        LogLevel::Info | LogLevel::Debug => true,
    }
}
