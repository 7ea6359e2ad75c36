//! One server behind the balancer: where it is, whether it may get requests, and how it has done.
//!
//! All threads share it; everything that changes is an atomic. It knows nothing of the other servers: who
//! is in rotation is decided in [`crate::servers`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tercet_observe::metrics::Latency;
use tokio::sync::Notify;

use crate::config;

/// What is known of a server, from the best to the worst: new requests go to the best there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Nothing speaks against it.
    Up,
    /// It has requests and says nothing: its event loop may be blocked, or its process stopped.
    Silent,
    /// Requests to it failed lately.
    Ejected,
    /// It fails its checks, and accepts connections.
    Down,
    /// It fails its checks, and no connection to it can be made.
    Unreachable,
}

impl Standing {
    /// All of them, the worst first.
    pub(crate) const WORST_FIRST: [Self; 5] =
        [Self::Unreachable, Self::Down, Self::Ejected, Self::Silent, Self::Up];
}

/// A server and its state.
#[derive(Debug)]
pub(crate) struct Server {
    /// The name logs and metrics use.
    pub(crate) name: Box<str>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its share of the requests, relative to the others'.
    pub(crate) weight: AtomicU32,
    /// Requests it may have at a time; 0 is no limit.
    pub(crate) max_requests: AtomicUsize,
    /// Requests that may share a connection; 1 is no sharing.
    pub(crate) pipeline: AtomicUsize,
    /// The last active checks say it lives.
    pub(crate) healthy: AtomicBool,
    /// The last active check could not connect.
    pub(crate) unreachable: AtomicBool,
    /// It has requests, and answered neither them nor a check.
    pub(crate) silent: AtomicBool,
    /// Thrown out for a while, because requests to it failed.
    pub(crate) ejected: AtomicBool,
    /// Gets no new requests, because an operator said so.
    pub(crate) draining: AtomicBool,
    /// No longer configured, and its requests have had the drain time to finish: what is left is cut off.
    pub(crate) cut_off: AtomicBool,
    /// Times it was ejected lately; each makes the next ejection longer.
    pub(crate) ejections: AtomicU32,
    /// Until when these count, in milliseconds of the process's clock.
    pub(crate) remembered_until: AtomicU64,
    failures: AtomicU32,
    /// Signs of life: answers that began, to requests and to checks.
    signs: AtomicU64,
    /// Active checks in a row that passed, or failed; kept here so that a reload does not start the count anew.
    checks_passed: AtomicU32,
    checks_failed: AtomicU32,
    in_flight: AtomicUsize,
    /// Those among them that have switched protocols: they may be silent for hours.
    tunnels: AtomicUsize,
    /// Told when a request leaves while there is a limit.
    room: Arc<Notify>,
    /// When it came back, in milliseconds of the process's clock; 0 when it was never away.
    pub(crate) back_since: AtomicU64,
    /// Requests it was given, including tries.
    pub(crate) requests: AtomicU64,
    /// Requests that failed on it.
    pub(crate) failed: AtomicU64,
    /// Answers by class: 1xx … 5xx.
    pub(crate) answers: [AtomicU64; 5],
    /// From handing a request over to the first byte of the answer.
    pub(crate) latency: Latency,
}

impl Server {
    pub(crate) fn new(wanted: &config::Server, room: Arc<Notify>) -> Self {
        Self {
            name: wanted.name.as_str().into(),
            address: wanted.address,
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
            remembered_until: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            signs: AtomicU64::new(0),
            checks_passed: AtomicU32::new(0),
            checks_failed: AtomicU32::new(0),
            in_flight: AtomicUsize::new(0),
            tunnels: AtomicUsize::new(0),
            room,
            back_since: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            answers: Default::default(),
            latency: Latency::default(),
        }
    }

    /// What is known of it.
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

    /// Whether nothing speaks against giving it new requests.
    pub(crate) fn is_available(&self) -> bool {
        self.standing() == Standing::Up && !self.draining.load(Ordering::Relaxed)
    }

    /// Whether what it still has is to be cut off.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Relaxed)
    }

    /// Requests it holds and may yet answer. Each is younger than its timeout: those that are not have left.
    pub(crate) fn held(&self) -> usize {
        self.in_flight().saturating_sub(self.tunnels.load(Ordering::Relaxed))
    }

    /// Counts a request that has switched protocols, until what is returned is dropped.
    pub(crate) fn tunnel(&self) -> Tunnel<'_> {
        self.tunnels.fetch_add(1, Ordering::Relaxed);
        Tunnel(self)
    }

    /// Notes a sign of life. It ends no row of failed requests: a server whose check is answered may fail every request.
    pub(crate) fn hear(&self) {
        self.signs.fetch_add(1, Ordering::Relaxed);
    }

    /// How many signs of life there were.
    pub(crate) fn signs(&self) -> u64 {
        self.signs.load(Ordering::Relaxed)
    }

    /// Requests it has right now.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts one request in; every call is matched by one of [`leave`](Self::leave). False, and nothing
    /// counted, when it is full.
    pub(crate) fn enter(&self) -> bool {
        let most = self.max_requests.load(Ordering::Relaxed);
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        if most != 0 && before >= most {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Counts one request out.
    pub(crate) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.max_requests.load(Ordering::Relaxed) != 0 {
            self.room.notify_one();
        }
    }

    /// Notes an answer: its status, and how long its first byte took.
    pub(crate) fn answered(&self, status: u16, after: Duration) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.answers[class].fetch_add(1, Ordering::Relaxed);
        self.latency.observe(after);
    }

    /// Notes a failed request and returns how many have failed in a row.
    pub(crate) fn failed(&self) -> u32 {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes an active check that passed and returns how many have in a row.
    pub(crate) fn check_passed(&self) -> u32 {
        self.checks_failed.store(0, Ordering::Relaxed);
        self.checks_passed.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Notes an active check that was late while requests were answered, or are about to be: it says nothing.
    pub(crate) fn check_excused(&self) {
        self.checks_failed.store(0, Ordering::Relaxed);
    }

    /// Notes an active check that failed and returns how many have in a row.
    pub(crate) fn check_failed(&self) -> u32 {
        self.checks_passed.store(0, Ordering::Relaxed);
        self.checks_failed.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Forgets failures in a row: a request was answered, or a new chance is given.
    pub(crate) fn forgive(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }
}

/// A request that has switched protocols.
#[derive(Debug)]
pub(crate) struct Tunnel<'a>(&'a Server);

impl Drop for Tunnel<'_> {
    fn drop(&mut self) {
        self.0.tunnels.fetch_sub(1, Ordering::Relaxed);
    }
}
