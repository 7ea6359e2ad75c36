//! What the threads of a balancer share: the configuration in force, the servers, limits and counts.

use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tercet_observe::LogHandle;
use tokio::sync::{mpsc, oneshot};

use crate::bind_address::BindAddresses;
use crate::config::Config;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::recent::Recent;
use crate::servers::Servers;

/// What the threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ArcSwap<Config>,
    pub(crate) servers: Servers,
    pub(crate) bind_addresses: ArcSwap<BindAddresses>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) recent: Recent,
    pub(crate) events: LogHandle,
    /// Where the admin socket's wish for a reload goes.
    pub(crate) reload_wanted: mpsc::Sender<ReloadReply>,
    queued: AtomicUsize,
    retrying: AtomicUsize,
}

/// How whoever reloads the configuration answers the admin socket: why it was refused, if it was.
pub type ReloadReply = oneshot::Sender<Result<(), String>>;

impl Shared {
    pub(crate) fn new(
        config: Config,
        bind_addresses: BindAddresses,
        workers: usize,
        events: LogHandle,
        reload_wanted: mpsc::Sender<ReloadReply>,
    ) -> Self {
        Self {
            servers: Servers::new(&config, events.clone()),
            config: ArcSwap::from_pointee(config),
            bind_addresses: ArcSwap::from_pointee(bind_addresses),
            limits: Limits::default(),
            metrics: Metrics::default(),
            recent: Recent::new(workers),
            events,
            reload_wanted,
            queued: AtomicUsize::new(0),
            retrying: AtomicUsize::new(0),
        }
    }

    /// A place in the queue of requests that wait for a server; `None` when `most` wait already.
    pub(crate) fn queue(&self, most: usize) -> Option<Place<'_>> {
        let place = Place::take(&self.queued);
        (place.before < most).then_some(place)
    }

    /// A place among the requests that are being repeated; `None` when the budget is spent.
    pub(crate) fn retry(&self, config: &Config) -> Option<Place<'_>> {
        let live: usize = self.servers.all().iter().map(|server| server.in_flight()).sum();
        let share = live * config.retries.budget_percent as usize / 100;
        let place = Place::take(&self.retrying);
        (place.before < share.max(config.retries.budget_minimum as usize)).then_some(place)
    }
}

/// One of a counted number of places, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    counter: &'a AtomicUsize,
    before: usize,
}

impl<'a> Place<'a> {
    fn take(counter: &'a AtomicUsize) -> Self {
        Self { counter, before: counter.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.counter.fetch_sub(1, Ordering::Relaxed);
    }
}
