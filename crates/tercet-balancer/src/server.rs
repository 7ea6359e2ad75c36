//! One upstream server: its address, its state and its counters.
//!
//! All threads share it, so everything mutable is an atomic. It does not depend on the other servers:
//! [`crate::servers`] decides which of them are in rotation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tercet_observe::metrics::Latency;
use tokio::sync::Notify;

use crate::config::{self, ServerAddress};
use crate::upstream::Upstream;

/// A server's state, from the best to the worst: new requests go to the servers of the best standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It passes its health checks.
    Up,
    /// It has requests and does not respond: its event loop may be blocked, or its process stopped.
    Silent,
    /// It was ejected because requests failed on it.
    Ejected,
    /// It fails its health checks, and accepts connections.
    Down,
    /// It fails its health checks, and does not accept connections.
    Unreachable,
}

/// A server and its state.
#[derive(Debug)]
pub(crate) struct Server {
    /// The name in logs and metrics.
    pub(crate) name: Box<str>,
    /// The address it listens on, as configured.
    pub(crate) address: ServerAddress,
    /// What connections to it are made to.
    pub(crate) upstream: Upstream,
    /// Whether it gets requests only while no other server is up.
    pub(crate) backup: AtomicBool,
    /// The weight in the balancing policy.
    pub(crate) weight: AtomicU32,
    /// The limit of requests in flight; 0 is no limit.
    pub(crate) max_requests: AtomicUsize,
    /// The limit of requests pipelined on one connection; 1 is no pipelining.
    pub(crate) pipeline: AtomicUsize,
    /// The last health checks passed.
    pub(crate) healthy: AtomicBool,
    /// The last health check could not connect.
    pub(crate) unreachable: AtomicBool,
    /// It has requests, and responded neither to them nor to a health check.
    pub(crate) silent: AtomicBool,
    /// Ejected from the rotation for a while, because requests failed on it.
    pub(crate) ejected: AtomicBool,
    /// Gets no new requests: drained by an operator, or removed from the configuration.
    pub(crate) draining: AtomicBool,
    /// Removed from the configuration, and the drain time is over: its remaining requests are cut off.
    pub(crate) cut_off: AtomicBool,
    /// Recent ejections; each doubles the length of the next one.
    pub(crate) ejections: AtomicU32,
    /// When `ejections` is reset, in milliseconds of the process's clock.
    pub(crate) ejections_expire: AtomicU64,
    /// Failed requests since the last response or recovery.
    failures: AtomicU32,
    /// Liveness signal: responses that began, to requests and to health checks.
    responses_seen: AtomicU64,
    /// Consecutive health checks that passed, or failed; kept here so that they survive a reload.
    checks_passed: AtomicU32,
    checks_failed: AtomicU32,
    in_flight: AtomicUsize,
    /// Requests in flight that have switched protocols: they may transfer nothing for hours.
    tunnels: AtomicUsize,
    /// Notified when a request ends on a server that has a limit.
    capacity_freed: Arc<Notify>,
    /// When its slow start began, in milliseconds of the process's clock; 0 outside of a slow start.
    pub(crate) slow_start_began: AtomicU64,
    /// Requests sent to it, including retries.
    pub(crate) requests: AtomicU64,
    /// Requests that failed on it.
    pub(crate) failed: AtomicU64,
    /// Responses by class: 1xx … 5xx.
    pub(crate) responses: [AtomicU64; 5],
    /// Time from sending a request to the first byte of the response.
    pub(crate) latency: Latency,
}

impl Server {
    pub(crate) fn new(wanted: &config::Server, capacity_freed: Arc<Notify>) -> Self {
        Self {
            name: wanted.name.as_str().into(),
            address: wanted.address.clone(),
            upstream: Upstream::new(&wanted.address),
            backup: AtomicBool::new(wanted.backup),
            weight: AtomicU32::new(wanted.weight.into()),
            max_requests: AtomicUsize::new(wanted.max_connections as usize),
            pipeline: AtomicUsize::new(wanted.pipeline.into()),
            healthy: AtomicBool::new(true),
            unreachable: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            ejected: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            cut_off: AtomicBool::new(false),
            ejections: AtomicU32::new(0),
            ejections_expire: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            responses_seen: AtomicU64::new(0),
            checks_passed: AtomicU32::new(0),
            checks_failed: AtomicU32::new(0),
            in_flight: AtomicUsize::new(0),
            tunnels: AtomicUsize::new(0),
            capacity_freed,
            slow_start_began: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            responses: Default::default(),
            latency: Latency::default(),
        }
    }

    /// Its standing, from its flags.
    pub(crate) fn standing(&self) -> Standing {
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        match is(&self.healthy) {
            false if is(&self.unreachable) => Standing::Unreachable,
            false => Standing::Down,
            true if is(&self.ejected) => Standing::Ejected,
            true if is(&self.silent) => Standing::Silent,
            true => Standing::Up,
        }
    }

    /// Whether it is up and not draining.
    pub(crate) fn is_available(&self) -> bool {
        self.standing() == Standing::Up && !self.draining.load(Ordering::Relaxed)
    }

    /// Whether its remaining requests have to be cut off.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Relaxed)
    }

    /// Requests in flight without tunnels. Each is younger than its timeout.
    pub(crate) fn awaiting_response(&self) -> usize {
        self.in_flight().saturating_sub(self.tunnels.load(Ordering::Relaxed))
    }

    /// Counts a request that has switched protocols until the guard is dropped.
    pub(crate) fn tunnel(&self) -> Tunnel<'_> {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
        Tunnel(self)
    }

    /// Counts a response that began. It does not reset the failures: a server that responds to health checks may fail
    /// every request.
    pub(crate) fn count_response(&self) {
        self.responses_seen.fetch_add(1, Ordering::Relaxed);
    }

    /// Responses that began, to requests and to health checks.
    pub(crate) fn responses_seen(&self) -> u64 {
        self.responses_seen.load(Ordering::Relaxed)
    }

    /// Requests in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request in flight, to be matched by one [`release`](Self::release). False, and nothing counted, when
    /// the server is at capacity.
    pub(crate) fn try_acquire(&self) -> bool {
        let most = self.max_requests.load(Ordering::Relaxed);
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        if most != 0 && before >= most {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Ends the count of a request in flight.
    pub(crate) fn release(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.max_requests.load(Ordering::Relaxed) != 0 {
            self.capacity_freed.notify_one();
        }
    }

    /// Records a response: its status, and the time to its first byte.
    pub(crate) fn record_response(&self, status: u16, after: Duration) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.responses[class].fetch_add(1, Ordering::Relaxed);
        self.latency.observe(after);
    }

    /// Records a failed request and returns the number of consecutive failures.
    pub(crate) fn record_failure(&self) -> u32 {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Records a passed health check and returns the number of consecutive ones.
    pub(crate) fn check_passed(&self) -> u32 {
        self.checks_failed.store(0, Ordering::Relaxed);
        self.checks_passed.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Records a health check that timed out while the server responded to requests, or was busy with them.
    pub(crate) fn check_inconclusive(&self) {
        self.checks_failed.store(0, Ordering::Relaxed);
    }

    /// Records a failed health check and returns the number of consecutive ones.
    pub(crate) fn check_failed(&self) -> u32 {
        self.checks_passed.store(0, Ordering::Relaxed);
        self.checks_failed.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Resets the consecutive failures: a response began, or the server came back into rotation.
    pub(crate) fn reset_failures(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }
}

/// Counts one request that has switched protocols; decremented on drop.
#[derive(Debug)]
pub(crate) struct Tunnel<'a>(&'a Server);

impl Drop for Tunnel<'_> {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}
