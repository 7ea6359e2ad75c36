//! The state of one worker thread: its clock, its connections to servers, its buffers, its access log.
//!
//! While they serve requests, workers share only atomics and rarely contended locks; see [`crate::shared`].

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tercet_observe::{AccessRecord, LogHandle};
use tokio::sync::Notify;

use crate::active::Active;
use crate::client::Client;
use crate::clock::Clock;
use crate::compression::encoder::Encoders;
use crate::http1::{Refusal, request};
use crate::listening::worker_count;
use crate::pipeline::Pipelines;
use crate::pool::Pool;
use crate::request_buffers::BufferPool;
use crate::shared::Shared;
use crate::stream_budget::WorkerBudget;

/// The state of one worker thread.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Rc<Clock>,
    pub(crate) pool: Pool,
    pub(crate) pipelines: Pipelines,
    pub(crate) buffer_pool: BufferPool,
    /// The encoders of compressed responses.
    pub(crate) encoders: Encoders,
    /// The memory budget of its HTTP/2 connections.
    pub(crate) http2: WorkerBudget,
    pub(crate) access_log: LogHandle,
    /// The worker's number, from 0.
    pub(crate) index: usize,
    /// The configuration as of its last use.
    #[expect(clippy::redundant_allocation, reason = "all threads would write the counter of the Arc")]
    config: RefCell<Rc<Arc<Active>>>,
    connections: Cell<usize>,
    stopping: Cell<bool>,
    idle: Notify,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, index: usize, access_log: LogHandle) -> Self {
        let config = shared.config.load_full();
        Self {
            shared,
            clock: Clock::new(),
            pool: Pool::default(),
            pipelines: Pipelines::default(),
            buffer_pool: BufferPool::new(worker_count(&config)),
            encoders: Encoders::new(worker_count(&config)),
            http2: WorkerBudget::default(),
            access_log,
            index,
            config: RefCell::new(Rc::new(config)),
            connections: Cell::new(0),
            stopping: Cell::new(false),
            idle: Notify::new(),
        }
    }

    /// Starts draining: connections are closed after the request they are serving.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
    }

    /// Waits until no client connection is open.
    pub(crate) async fn finished(&self) {
        while self.connections.get() > 0 {
            self.idle.notified().await;
        }
    }

    /// The configuration in force.
    #[expect(clippy::redundant_allocation, reason = "as the field")]
    pub(crate) fn config(&self) -> Rc<Arc<Active>> {
        let current = self.shared.config.load();
        let mut known = self.config.borrow_mut();
        if !Arc::ptr_eq(&current, &known) {
            *known = Rc::new(Arc::clone(&current));
        }
        Rc::clone(&known)
    }

    /// Whether the worker is draining.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Counts a connection of this peer until the guard is dropped; `None` when the peer has reached its limit.
    /// Trusted proxies have no limit: they carry the connections of many clients.
    pub(crate) fn count_connection(self: &Rc<Self>, peer: IpAddr) -> Option<OpenConnection> {
        let config = self.config();
        if !self.shared.limits.connect(&config, peer, std::time::Instant::now()) {
            self.shared.metrics.limited.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.shared.metrics.accepted.fetch_add(1, Ordering::Relaxed);
        self.connections.set(self.connections.get() + 1);
        Some(OpenConnection { worker: Rc::clone(self), peer })
    }

    /// Counts a finished request, and writes it to the access log and to the latest requests of the admin socket.
    pub(crate) fn record(&self, record: &AccessRecord<'_>) {
        self.shared.metrics.answered(self.index, record.status, record.duration);
        self.access_log.request(record);
        if self.shared.config.load().admin.socket.is_some() {
            self.shared.recent.push(self.index, record);
        }
    }

    /// Logs a request that was refused before it was parsed; `received` is the part that has arrived.
    pub(crate) fn refused(&self, client: &Client, received: &[u8], id: &str, refusal: Refusal, bytes: u64) {
        let line = match request::line(received) {
            Some((method, target, version)) => (method, target, client.logged_version(version)),
            None => (&b"-"[..], &b"-"[..], "-"),
        };
        self.refused_as(client, line, id, refusal, bytes);
    }

    /// Logs a refused request with this method, target and version.
    pub(crate) fn refused_as(
        &self,
        client: &Client,
        (method, target, version): (&[u8], &[u8], &'static str),
        id: &str,
        refusal: Refusal,
        bytes: u64,
    ) {
        self.shared.metrics.refused.fetch_add(1, Ordering::Relaxed);
        self.record(&AccessRecord {
            client: Some(client.address),
            request_id: id.as_bytes(),
            method,
            target,
            version,
            status: refusal.status,
            bytes,
            duration: Duration::ZERO,
            upstream: "-",
            queue_duration: None,
            upstream_duration: None,
            stages: None,
            referer: None,
            user_agent: None,
        });
    }
}

/// Counts one client connection; decremented on drop.
#[derive(Debug)]
pub(crate) struct OpenConnection {
    worker: Rc<Worker>,
    peer: IpAddr,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let Self { worker, peer } = self;
        worker.shared.limits.disconnect(&worker.config().limits, *peer);
        worker.connections.set(worker.connections.get() - 1);
        if worker.connections.get() == 0 && worker.is_stopping() {
            worker.idle.notify_one();
        }
    }
}
