//! The whole balancer inside one process: workers on threads of their own, and one more thread for health,
//! admin and whatever else is not on a request's way.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use tercet_observe::event::ProcessEvent;
use tercet_observe::{Log, LogHandle};
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Config;
use crate::metrics::Metrics;
use crate::servers::Servers;
use crate::worker::Worker;
use crate::{admin, health, listener};

/// What the threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ArcSwap<Config>,
    pub(crate) servers: Servers,
    pub(crate) metrics: Metrics,
    pub(crate) events: LogHandle,
    /// Where the admin socket's wish for a reload goes.
    pub(crate) reload_wanted: mpsc::Sender<ReloadReply>,
    queued: AtomicUsize,
    retrying: AtomicUsize,
}

/// How whoever reloads the configuration answers the admin socket: why it was refused, if it was.
pub type ReloadReply = oneshot::Sender<Result<(), String>>;

/// The sockets a balancer listens on: for each of `config.listen` one, or one for each worker.
#[derive(Debug)]
pub struct Listeners(pub Vec<Vec<TcpListener>>);

/// A running balancer.
#[derive(Debug)]
pub struct Balancer {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    reloaded: watch::Sender<()>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    steward: Option<JoinHandle<io::Result<()>>>,
}

impl Listeners {
    /// Binds everything the configuration names.
    ///
    /// # Errors
    /// An address that is taken or may not be used; it is named.
    pub fn bind(config: &Config) -> io::Result<Self> {
        let workers = worker_count(config);
        let bind = |listen: &crate::config::Listen| {
            listener::bind(listen.address, workers)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", listen.address)))
        };
        Ok(Self(config.listen.iter().map(bind).collect::<io::Result<_>>()?))
    }
}

impl Balancer {
    /// Starts serving `listeners`. Events go to `log`, requests to `access_log`, wishes of the admin socket for
    /// another configuration to `reload_wanted`.
    ///
    /// # Errors
    /// Threads or event loops cannot be made.
    pub fn start(
        config: Config,
        listeners: &Listeners,
        log: &Log,
        access_log: &Log,
        reload_wanted: mpsc::Sender<ReloadReply>,
    ) -> io::Result<Self> {
        let count = worker_count(&config);
        let events = log.handle();
        for address in listeners.0.iter().filter_map(|group| group.first()?.local_addr().ok()) {
            events.event(ProcessEvent::Listening { address: &address.to_string(), purpose: "requests" });
        }
        let servers = Servers::new(&config, log.handle());
        let shared = Arc::new(Shared {
            config: ArcSwap::from_pointee(config),
            servers,
            metrics: Metrics::default(),
            events,
            reload_wanted,
            queued: AtomicUsize::new(0),
            retrying: AtomicUsize::new(0),
        });
        let (stop, stopped) = watch::channel(false);
        let (reloaded, reloads) = watch::channel(());
        let mut workers = Vec::with_capacity(count);
        for index in 0..count {
            let mut own = Vec::new();
            for group in &listeners.0 {
                // Fewer sockets than workers (systemd hands over one an address): they are shared.
                let listener = group[index % group.len()].try_clone()?;
                listener.set_nonblocking(true)?;
                own.push(listener);
            }
            let (shared, access_log, stopped) = (Arc::clone(&shared), access_log.handle(), stopped.clone());
            let worker = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || Worker::run(shared, own, access_log, stopped))?;
            workers.push(worker);
        }
        let steward = std::thread::Builder::new().name("steward".into()).spawn({
            let shared = Arc::clone(&shared);
            move || steward(shared, reloads, stopped)
        })?;
        Ok(Self { shared, stop, reloaded, workers, steward: Some(steward) })
    }

    /// Puts another configuration in force; connections, health and counts stay. Listeners and workers do
    /// not change.
    pub fn reload(&self, config: Config) {
        self.shared.servers.configure(&config);
        self.shared.config.store(Arc::new(config));
        self.reloaded.send_replace(());
    }

    /// Stops taking connections, lets requests finish for the configured drain time, and ends.
    ///
    /// # Errors
    /// A thread failed or panicked.
    pub fn stop(mut self) -> io::Result<()> {
        self.stop.send_replace(true);
        let threads = self.workers.drain(..).chain(self.steward.take());
        let mut outcome = Ok(());
        for thread in threads {
            let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")));
            outcome = outcome.and(ended);
        }
        outcome
    }
}

impl Shared {
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

/// Threads that serve under this configuration.
pub fn worker_count(config: &Config) -> usize {
    match config.workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        count => count,
    }
}

fn steward(
    shared: Arc<Shared>,
    mut reloads: watch::Receiver<()>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(async {
        tokio::task::spawn_local(health::end_ejections(Arc::clone(&shared)));
        tokio::task::spawn_local({
            let shared = Arc::clone(&shared);
            async move {
                if let Err(error) = admin::serve(Arc::clone(&shared)).await {
                    shared.events.event(ProcessEvent::Failed { reason: &error.to_string() });
                }
            }
        });
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = reloads.changed() => {}
                () = health::check_all(Arc::clone(&shared)) => {}
            }
        }
    });
    Ok(())
}
