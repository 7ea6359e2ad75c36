//! The state shared by all threads of a balancer: the configuration, the servers, the limits and the counters.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tercet_observe::LogHandle;
use tercet_observe::event::BalancerEvent;
use tokio::sync::{mpsc, oneshot};

use crate::active::Active;
use crate::bind_address::BindAddresses;
use crate::challenges::Challenges;
use crate::config::Config;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::recent::Recent;
use crate::servers::Servers;

/// The state shared by all threads.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ArcSwap<Active>,
    pub(crate) servers: Servers,
    pub(crate) bind_addresses: ArcSwap<BindAddresses>,
    pub(crate) challenges: Arc<Challenges>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) recent: Recent,
    pub(crate) events: LogHandle,
    /// The log of requests, to count its lost lines: each worker has a handle of its own.
    access_log: LogHandle,
    /// Reload requests of the admin socket.
    pub(crate) reload_requests: mpsc::Sender<ReloadReply>,
    /// Whether maintenance is on.
    maintenance: AtomicBool,
    queued: AtomicUsize,
    retrying: AtomicUsize,
}

/// The reply to a reload request of the admin socket; the error is the reason for which it was refused.
pub type ReloadReply = oneshot::Sender<Result<(), String>>;

impl Shared {
    pub(crate) fn new(
        config: Active,
        bind_addresses: BindAddresses,
        challenges: Arc<Challenges>,
        workers: usize,
        (events, access_log): (LogHandle, LogHandle),
        reload_requests: mpsc::Sender<ReloadReply>,
    ) -> Self {
        Self {
            servers: Servers::new(&config, events.clone()),
            config: ArcSwap::from_pointee(config),
            bind_addresses: ArcSwap::from_pointee(bind_addresses),
            challenges,
            limits: Limits::default(),
            metrics: Metrics::new(workers),
            recent: Recent::new(workers),
            events,
            access_log,
            reload_requests,
            maintenance: AtomicBool::new(false),
            queued: AtomicUsize::new(0),
            retrying: AtomicUsize::new(0),
        }
    }

    /// Lines of both logs lost so far.
    pub(crate) fn lost_log_lines(&self) -> u64 {
        self.events.lost() + self.access_log.lost()
    }

    /// Whether maintenance is on.
    pub(crate) fn is_in_maintenance(&self) -> bool {
        self.maintenance.load(Ordering::Relaxed)
    }

    /// Turns maintenance on while its file exists, and off when it is gone; logs a change.
    pub(crate) fn refresh_maintenance(&self) {
        let config = self.config.load();
        let on = match config.maintenance.file.symlink_metadata() {
            Ok(_) => true,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => false,
            // Nothing is known: it stays as it is.
            Err(_) => return,
        };
        if self.maintenance.swap(on, Ordering::Relaxed) != on {
            let file = config.maintenance.file.display().to_string();
            self.events.event(if on {
                BalancerEvent::MaintenanceOn { file: &file }
            } else {
                BalancerEvent::MaintenanceOff { file: &file }
            });
        }
    }

    /// A permit to wait in the queue for a server; `None` when `limit` requests wait already.
    pub(crate) fn queue(&self, limit: usize) -> Option<Permit<'_>> {
        Permit::acquire(&self.queued, limit)
    }

    /// A permit to retry a request; `None` when the retry budget is exhausted.
    pub(crate) fn retry(&self, config: &Config) -> Option<Permit<'_>> {
        let in_flight: usize = self.servers.all().iter().map(|server| server.in_flight()).sum();
        let budget = in_flight * config.retries.budget_percent as usize / 100;
        Permit::acquire(&self.retrying, budget.max(config.retries.budget_minimum as usize))
    }
}

/// A permit of a counting semaphore that is never waited for; released on drop.
#[derive(Debug)]
pub(crate) struct Permit<'a>(&'a AtomicUsize);

impl<'a> Permit<'a> {
    fn acquire(counter: &'a AtomicUsize, limit: usize) -> Option<Self> {
        let permit = Self(counter);
        (counter.fetch_add(1, Ordering::Relaxed) < limit).then_some(permit)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
