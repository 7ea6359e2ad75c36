//! The whole balancer inside one process: workers on threads of their own, and one more thread for health,
//! admin and whatever else is not on a request's way.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tercet_observe::event::ProcessEvent;
use tercet_observe::{Log, LogHandle};
use tokio::runtime::LocalOptions;
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use crate::config::Config;
use crate::door::Doors;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::recent::Recent;
use crate::servers::Servers;
use crate::tls::TlsError;
use crate::worker::Worker;
use crate::{admin, health, listener};

/// How often files that may have changed are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

/// What the threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ArcSwap<Config>,
    pub(crate) servers: Servers,
    pub(crate) doors: ArcSwap<Doors>,
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

/// The sockets of one address: one, or one for each worker.
#[derive(Debug)]
pub struct Listening {
    /// The address as it is configured; with port 0 the sockets know the real one.
    pub address: SocketAddr,
    /// The sockets.
    pub sockets: Vec<TcpListener>,
}

/// A running balancer.
#[derive(Debug)]
pub struct Balancer {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    reloaded: watch::Sender<()>,
    listening: watch::Sender<Arc<Vec<Listening>>>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    steward: Option<JoinHandle<io::Result<()>>>,
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Listening {
    /// Binds an address, with one socket for each of so many workers.
    ///
    /// # Errors
    /// The address is taken or may not be used; it is named.
    pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Self> {
        let sockets = listener::bind(address, workers)
            .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
        Ok(Self { address, sockets })
    }

    /// Binds every address the configuration names.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_all(config: &Config) -> io::Result<Vec<Self>> {
        let workers = worker_count(config);
        config.listen.iter().map(|listen| Self::bind(listen.address, workers)).collect()
    }

    /// The address that is really listened on.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.sockets.first()?.local_addr().ok()
    }

    fn try_clone(&self) -> io::Result<Self> {
        let sockets = self.sockets.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?;
        Ok(Self { address: self.address, sockets })
    }

    /// The socket of this worker. When there are fewer (systemd hands over one an address) they are shared.
    pub(crate) fn socket_of(&self, worker: usize) -> io::Result<TcpListener> {
        let socket = self.sockets[worker % self.sockets.len()].try_clone()?;
        socket.set_nonblocking(true)?;
        Ok(socket)
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
        listeners: Vec<Listening>,
        log: &Log,
        access_log: &Log,
        reload_wanted: mpsc::Sender<ReloadReply>,
    ) -> io::Result<Self> {
        let count = worker_count(&config);
        let events = log.handle();
        for address in listeners.iter().filter_map(Listening::local_address) {
            events.event(ProcessEvent::Listening { address: &address.to_string(), purpose: "requests" });
        }
        let doors = Doors::load(&config, None).map_err(io::Error::other)?;
        let servers = Servers::new(&config, log.handle());
        let shared = Arc::new(Shared {
            config: ArcSwap::from_pointee(config),
            servers,
            doors: ArcSwap::from_pointee(doors),
            limits: Limits::default(),
            metrics: Metrics::default(),
            recent: Recent::new(count),
            events,
            reload_wanted,
            queued: AtomicUsize::new(0),
            retrying: AtomicUsize::new(0),
        });
        let (stop, stopped) = watch::channel(false);
        let (reloaded, reloads) = watch::channel(());
        let (listening, listened) = watch::channel(Arc::new(listeners));
        let (end, ended) = mpsc::channel(1);
        let mut workers = Vec::with_capacity(count);
        for index in 0..count {
            let (shared, access_log) = (Arc::clone(&shared), access_log.handle());
            let (listened, stopped, end) = (listened.clone(), stopped.clone(), Ending(end.clone()));
            let worker = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let _end = end;
                Worker::run(shared, listened, index, access_log, stopped)
            })?;
            workers.push(worker);
        }
        let steward = std::thread::Builder::new().name("steward".into()).spawn({
            let shared = Arc::clone(&shared);
            let end = Ending(end);
            move || {
                let _end = end;
                steward(&shared, reloads, stopped)
            }
        })?;
        Ok(Self {
            shared,
            stop,
            reloaded,
            listening,
            workers,
            steward: Some(steward),
            ended: Mutex::new(ended),
        })
    }

    /// Puts another configuration in force, all of it or nothing; connections, health and counts stay.
    /// `bound` holds the sockets of addresses that are new; those that are not named any more are closed. The
    /// number of workers does not change.
    ///
    /// # Errors
    /// Certificates that cannot be used.
    pub fn reload(&self, config: Config, bound: Vec<Listening>) -> Result<(), TlsError> {
        let doors = Doors::load(&config, Some(&self.shared.doors.load()))?;
        self.shared.servers.configure(&config);
        self.shared.doors.store(Arc::new(doors));
        let mut listening = Vec::new();
        for before in self.listening.borrow().iter() {
            if config.listen.iter().any(|listen| listen.address == before.address)
                && let Ok(same) = before.try_clone()
            {
                listening.push(same);
            }
        }
        listening.extend(bound);
        self.shared.config.store(Arc::new(config));
        self.listening.send_replace(Arc::new(listening));
        self.reloaded.send_replace(());
        Ok(())
    }

    /// Waits until a thread ends that should not: then the balancer is not whole any more.
    pub async fn broken(&self) {
        self.ended.lock().await.recv().await;
    }

    /// Stops taking connections, lets requests finish for the configured drain time, and ends.
    ///
    /// # Errors
    /// A thread failed or panicked.
    pub fn stop(mut self) -> io::Result<()> {
        self.stop.send_replace(true);
        // The sockets close with their last holder: clients are to be refused, not to wait for nobody.
        self.listening.send_replace(Arc::default());
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

/// Tells when the thread that holds it ends, in whatever way.
struct Ending(mpsc::Sender<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        // One is enough.
        let _ = self.0.try_send(());
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
    shared: &Arc<Shared>,
    mut reloads: watch::Receiver<()>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        tokio::task::spawn_local(health::end_ejections(Arc::clone(shared)));
        tokio::task::spawn_local(keep_house(Arc::clone(shared)));
        let mut admin = tokio::task::spawn_local(admin::serve(Arc::clone(shared)));
        let mut served = shared.config.load().admin.clone();
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = reloads.changed() => {}
                () = health::check_all(Arc::clone(shared)) => {}
            }
            let wanted = &shared.config.load().admin;
            if *wanted != served {
                // What is being answered (the reload itself, say) has a task of its own and goes on.
                admin.abort();
                admin = tokio::task::spawn_local(admin::serve(Arc::clone(shared)));
                served = wanted.clone();
            }
        }
    });
    Ok(())
}

/// Reads certificates that changed, and forgets clients that have not been seen for a while.
async fn keep_house(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(HOUSEKEEPING);
    loop {
        interval.tick().await;
        for tls in shared.doors.load().iter().filter_map(|door| door.tls.as_ref()) {
            match tls.refresh() {
                Ok(false) => {}
                Ok(true) => shared.events.event(ProcessEvent::ConfigurationLoaded { source: "certificates" }),
                Err(error) => shared.events.event(ProcessEvent::ConfigurationRefused {
                    source: "certificates",
                    reason: &error.to_string(),
                }),
            }
        }
        shared.limits.sweep(&shared.config.load().limits, std::time::Instant::now());
    }
}
