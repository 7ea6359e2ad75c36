//! One thread of the balancer: its event loop, its listeners, its connections to servers, its buffers.
//!
//! Workers share nothing on a request's way but a few atomics; see [`crate::balancer::Shared`].

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tercet_observe::event::ProcessEvent;
use tercet_observe::{AccessRecord, LogHandle};
use tokio::net::TcpListener;
use tokio::runtime::LocalOptions;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::balancer::{Listening, Shared};
use crate::client::Client;
use crate::clock::Clock;
use crate::config::Config;
use crate::http1::Refusal;
use crate::listener;
use crate::pipeline::Pipelines;
use crate::pool::Pool;
use crate::scratch::Stock;

/// A worker's own things.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Rc<Clock>,
    pub(crate) pool: Pool,
    pub(crate) pipelines: Pipelines,
    pub(crate) stock: Stock,
    pub(crate) access_log: LogHandle,
    index: usize,
    connections: Cell<usize>,
    stopping: Cell<bool>,
    idle: Notify,
}

/// How often connections to servers that nobody used are looked through.
const SWEEP: Duration = Duration::from_secs(1);

impl Worker {
    /// Serves `listeners` until `stop` says so; then takes no more connections, lets requests finish and
    /// returns when none is left or the drain time is over.
    ///
    /// # Errors
    /// The event loop could not be made, or a listener not be registered with it.
    pub(crate) fn run(
        shared: Arc<Shared>,
        listeners: watch::Receiver<Arc<Vec<Listening>>>,
        index: usize,
        access_log: LogHandle,
        stop: watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        runtime.block_on(async {
            let worker = Rc::new(Self {
                shared,
                clock: Clock::new(),
                pool: Pool::default(),
                pipelines: Pipelines::default(),
                stock: Stock::default(),
                access_log,
                index,
                connections: Cell::new(0),
                stopping: Cell::new(false),
                idle: Notify::new(),
            });
            worker.serve(listeners, stop).await
        })
    }

    async fn serve(
        self: Rc<Self>,
        listeners: watch::Receiver<Arc<Vec<Listening>>>,
        mut stop: watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let listening = tokio::task::spawn_local(Rc::clone(&self).listen(listeners, stop.clone()));
        tokio::task::spawn_local(Rc::clone(&self).keep_time());
        tokio::task::spawn_local(Rc::clone(&self).sweep());
        tokio::task::spawn_local(Rc::clone(&self).send());
        // The sender going away means the same.
        let _ = stop.wait_for(|stop| *stop).await;
        self.stopping.set(true);
        // It ends by itself; only a panic in it could be reported here, and that has been.
        let _ = listening.await;
        let finished = async {
            while self.connections.get() > 0 {
                self.idle.notified().await;
            }
        };
        let _ = tokio::time::timeout(self.config().drain, finished).await;
        Ok(())
    }

    /// Accepts on whatever is listened on, as that changes.
    async fn listen(
        self: Rc<Self>,
        mut listeners: watch::Receiver<Arc<Vec<Listening>>>,
        mut stop: watch::Receiver<bool>,
    ) {
        let mut accepting: Vec<(SocketAddr, watch::Sender<bool>)> = Vec::new();
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            let wanted = Arc::clone(&listeners.borrow_and_update());
            // Dropping the sender ends the accepting.
            accepting.retain(|(address, _)| wanted.iter().any(|listening| listening.address == *address));
            for listening in wanted.iter() {
                if accepting.iter().any(|(address, _)| *address == listening.address) {
                    continue;
                }
                match listening.socket_of(self.index).and_then(TcpListener::from_std) {
                    Ok(listener) => {
                        let (until, stopped) = watch::channel(false);
                        let address = listening.address;
                        tasks.spawn_local(listener::accept(Rc::clone(&self), address, listener, stopped));
                        accepting.push((address, until));
                    }
                    Err(error) => {
                        let reason = format!("{}: {error}", listening.address);
                        self.shared.events.event(ProcessEvent::Failed { reason: &reason });
                    }
                }
            }
            tokio::select! {
                changed = listeners.changed() => if changed.is_err() { break },
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        drop(accepting);
        while tasks.join_next().await.is_some() {}
    }

    async fn keep_time(self: Rc<Self>) {
        let generation = Cell::new(self.shared.servers.generation());
        let told_to_stop = Cell::new(false);
        self.clock
            .run(|| {
                self.pipelines.tick(self.clock.last_tick());
                // Whoever waits for a server that has just been found dead is to notice, and so are idle
                // connections when the balancer stops.
                let now = self.shared.servers.generation();
                generation.replace(now) != now
                    || told_to_stop.replace(self.is_stopping()) != self.is_stopping()
            })
            .await;
    }

    async fn sweep(self: Rc<Self>) {
        let mut interval = tokio::time::interval(SWEEP);
        loop {
            interval.tick().await;
            let (timeout, now) = (self.config().timeouts.server_idle, Instant::now());
            self.pool.sweep(timeout, now);
            self.pipelines.sweep(timeout, now);
        }
    }

    /// Sends the requests that share connections.
    async fn send(self: Rc<Self>) {
        std::future::poll_fn(|context| self.pipelines.poll_send::<()>(context)).await;
    }

    /// The configuration in force.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.shared.config.load_full()
    }

    /// Whether connections are to be closed as soon as their request is answered.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Counts a connection of this peer in until what is returned is dropped; `None` when the peer has too
    /// many. Proxies that are trusted carry many clients and have no bound.
    pub(crate) fn enter(self: &Rc<Self>, peer: IpAddr) -> Option<Entered> {
        let config = self.config();
        if !self.shared.limits.connect(&config, peer, std::time::Instant::now()) {
            self.shared.metrics.limited.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.shared.metrics.accepted.fetch_add(1, Ordering::Relaxed);
        self.connections.set(self.connections.get() + 1);
        Some(Entered { worker: Rc::clone(self), peer })
    }

    /// Tells of a request that is over: a line in the access log, and a place among the latest.
    pub(crate) fn record(&self, record: &AccessRecord<'_>) {
        self.access_log.request(record);
        if self.shared.config.load().admin.socket.is_some() {
            self.shared.recent.remember(self.index, record);
        }
    }

    /// Logs a request that was refused before it was understood.
    pub(crate) fn refused(&self, client: &Client, refusal: Refusal, bytes: u64) {
        self.shared.metrics.refused.fetch_add(1, Ordering::Relaxed);
        self.record(&AccessRecord {
            client: Some(client.address),
            request_id: b"-",
            method: b"-",
            target: b"-",
            version: "-",
            status: refusal.status,
            bytes,
            duration: Duration::ZERO,
            upstream: "-",
            upstream_duration: None,
            referer: None,
            user_agent: None,
        });
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub(crate) struct Entered {
    worker: Rc<Worker>,
    peer: IpAddr,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let Self { worker, peer } = self;
        worker.shared.limits.disconnect(&worker.config().limits, *peer);
        worker.connections.set(worker.connections.get() - 1);
        if worker.connections.get() == 0 && worker.is_stopping() {
            worker.idle.notify_one();
        }
    }
}
