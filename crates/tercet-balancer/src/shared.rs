//! The state shared by all threads of a balancer: the configuration, the backend pools, the limits and the counters.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use tercet_observe::LogHandle;
use tercet_observe::event::BalancerEvent;
use tokio::sync::{mpsc, oneshot};

use crate::active::Active;
use crate::bind_address::BindAddresses;
use crate::challenges::Challenges;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::pools::Pools;
use crate::recent::Recent;

/// The state shared by all threads.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ArcSwap<Active>,
    pub(crate) pools: Pools,
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
}

/// The reply to a reload request of the admin socket; the error is the reason for which it was refused.
pub type ReloadReply = oneshot::Sender<Result<(), String>>;

impl Shared {
    pub(crate) fn new(
        config: Active,
        pools: Pools,
        bind_addresses: BindAddresses,
        challenges: Arc<Challenges>,
        workers: usize,
        (events, access_log): (LogHandle, LogHandle),
        reload_requests: mpsc::Sender<ReloadReply>,
    ) -> Self {
        Self {
            pools,
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
}
