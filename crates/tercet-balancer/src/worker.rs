//! What one thread of the balancer has for itself: its clock, its connections to servers, its buffers, its log.
//!
//! Workers share nothing on a request's way but a few atomics; see [`crate::shared`].

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tercet_observe::{AccessRecord, LogHandle};
use tokio::sync::Notify;

use crate::client::Client;
use crate::clock::Clock;
use crate::config::Config;
use crate::http1::{Refusal, request};
use crate::http2::allowance::Budget;
use crate::listening::worker_count;
use crate::pipeline::Pipelines;
use crate::pool::Pool;
use crate::request_buffers::BufferPool;
use crate::shared::Shared;

/// A worker's own things.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Rc<Clock>,
    pub(crate) pool: Pool,
    pub(crate) pipelines: Pipelines,
    pub(crate) buffer_pool: BufferPool,
    /// What its HTTP/2 connections hold.
    pub(crate) http2: Budget,
    pub(crate) access_log: LogHandle,
    /// Which of the workers it is, from 0.
    pub(crate) index: usize,
    connections: Cell<usize>,
    stopping: Cell<bool>,
    idle: Notify,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, index: usize, access_log: LogHandle) -> Self {
        let buffer_pool = BufferPool::new(worker_count(&shared.config.load()));
        Self {
            shared,
            clock: Clock::new(),
            pool: Pool::default(),
            pipelines: Pipelines::default(),
            buffer_pool,
            http2: Budget::default(),
            access_log,
            index,
            connections: Cell::new(0),
            stopping: Cell::new(false),
            idle: Notify::new(),
        }
    }

    /// From now on connections are closed as soon as their request is answered.
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
    }

    /// Waits until no connection is left.
    pub(crate) async fn finished(&self) {
        while self.connections.get() > 0 {
            self.idle.notified().await;
        }
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

    /// Logs a request that was refused before all of it was understood, of which `received` has come.
    pub(crate) fn refused(&self, client: &Client, received: &[u8], refusal: Refusal, bytes: u64) {
        let line = match request::line(received) {
            Some((method, target, version)) => (method, target, client.spoken(version)),
            None => (&b"-"[..], &b"-"[..], "-"),
        };
        self.refused_as(client, line, refusal, bytes);
    }

    /// The same, of a request of this method, target and version.
    pub(crate) fn refused_as(
        &self,
        client: &Client,
        (method, target, version): (&[u8], &[u8], &'static str),
        refusal: Refusal,
        bytes: u64,
    ) {
        self.shared.metrics.refused.fetch_add(1, Ordering::Relaxed);
        self.record(&AccessRecord {
            client: Some(client.address),
            request_id: b"-",
            method,
            target,
            version,
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
