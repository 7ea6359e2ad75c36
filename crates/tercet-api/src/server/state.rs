//! State shared by all threads: configuration, schema cache, outage, metrics.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use tercet_observe::traces::Tracer;
use tokio::sync::{Notify, mpsc, oneshot};

use super::body::Budget;
use super::metrics::Metrics;
use crate::config::{Config, LogLevel};
use crate::identity_provider::ProvidedKeys;
use crate::plan::Policy;
use crate::pool::Counts;
use crate::schema::SchemaCache;

/// Shared by all threads; a request loads each part once.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: ArcSwap<Settings>,
    /// Set during an outage of the database.
    pub(super) outage: ArcSwapOption<Outage>,
    /// Notified when the settings or the outage are replaced.
    pub(super) replaced: Notify,
    pub(super) metrics: Metrics,
    /// Traces requests, if a collector is named.
    pub(super) tracer: Option<Tracer>,
    pub(super) pools: Arc<Counts>,
    /// The memory budget for request bodies.
    pub(super) bodies: Arc<Budget>,
    /// The keys of the identity provider, once there are any.
    pub(super) provided: ArcSwapOption<ProvidedKeys>,
    /// Requests that wait for newer ones.
    pub(super) wanted_keys: mpsc::UnboundedSender<oneshot::Sender<()>>,
    /// Reports to the database monitor.
    pub(super) reports: mpsc::UnboundedSender<Report>,
}

/// A report to the database monitor.
#[derive(Debug)]
pub(super) enum Report {
    /// The database is unreachable, with the error.
    Unreachable(String),
    /// The schema has changed since the schema cache was loaded.
    SchemaOutdated,
    /// Types that a request writes have changed. The sender is notified after the next reload.
    TypesChanged(oneshot::Sender<()>),
}

impl Shared {
    /// Sends a report; without effect during shutdown.
    pub(super) fn report(&self, report: Report) {
        let _ = self.reports.send(report);
    }

    /// Waits until the keys of the identity provider were fetched again, unless tokens have caused that within the last half minute.
    pub(super) async fn newer_keys(&self) {
        let (sender, attempted) = oneshot::channel();
        // The channel is closed during shutdown.
        let _ = self.wanted_keys.send(sender);
        let _ = attempted.await;
    }

    /// Waits for a schema cache newer than `known`; `None` if the load fails or takes too long.
    pub(super) async fn reloaded(&self, known: Option<&Arc<SchemaCache>>) -> Option<Arc<SchemaCache>> {
        let (sender, loaded) = oneshot::channel();
        self.report(Report::TypesChanged(sender));
        let timeout = *self.settings.load().config.db_pool_acquisition_timeout;
        tokio::time::timeout(timeout, loaded).await.ok()?.ok()?;
        let fresh = self.settings.load().cache.clone()?;
        let is_new = known.is_none_or(|known| !Arc::ptr_eq(known, &fresh));
        is_new.then_some(fresh)
    }
}

impl Shared {
    /// The current settings. Until the schema cache is loaded for the first time, waits for that as long as for a
    /// connection, unless there is an outage.
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
        let timeout = *settings.config.db_pool_acquisition_timeout;
        tokio::time::timeout(timeout, first_load).await.unwrap_or_else(|_| self.settings.load_full())
    }
}

/// Configuration, plan policy and schema cache: immutable, replaced as a whole.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) config: Arc<Config>,
    pub(super) policy: Policy,
    /// `None` until the first load.
    pub(super) cache: Option<Arc<SchemaCache>>,
}

/// An outage of the database.
#[derive(Debug)]
pub(super) struct Outage {
    pub(super) reason: String,
    /// When the next connection attempt is made.
    pub(super) retry: Instant,
}

impl Outage {
    /// The value of `Retry-After`, in whole seconds, at least 1.
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
            pre_request: config.db_pre_request.is_some(),
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
