//! All servers behind the balancer and who of them is in rotation.
//!
//! Picking is lock-free; what changes the rotation (a check's verdict, an ejection, a drain, a reload) takes
//! a lock, decides and publishes a new one. It knows verdicts, not how they were reached.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tercet_observe::LogHandle;
use tercet_observe::event::BalancerEvent;
use tokio::sync::Notify;

use crate::config::{Config, Health, Policy};
use crate::rotation::{Rotation, Selection};
use crate::server::{Server, Standing};

/// The servers and the rotation made of them.
#[derive(Debug)]
pub(crate) struct Servers {
    rotation: ArcSwap<Rotation>,
    turns: AtomicU64,
    /// Raised when what is left of requests is to be cut off.
    cut_offs: AtomicU64,
    started: Instant,
    table: Mutex<Table>,
    log: LogHandle,
    /// Told when an ejection or a removal was added, whose end somebody has to wait for.
    pub(crate) deadline_added: Notify,
    /// Told when a request left a server that has a limit, or a server came back.
    pub(crate) room: Arc<Notify>,
}

#[derive(Debug)]
struct Table {
    servers: Vec<Arc<Server>>,
    policy: Policy,
    health: Health,
    /// Ejected servers and when each may come back.
    ejected: Vec<(Arc<Server>, Instant)>,
    /// Servers that are no longer configured, and when what is left of their requests is cut off.
    leaving: Vec<(Arc<Server>, Instant)>,
    /// Whether no server was up when this was last looked at.
    is_panicking: bool,
}

impl Servers {
    pub(crate) fn new(config: &Config, log: LogHandle) -> Self {
        let table = Table {
            servers: Vec::new(),
            policy: config.policy,
            health: config.health.clone(),
            ejected: Vec::new(),
            leaving: Vec::new(),
            is_panicking: false,
        };
        let servers = Self {
            rotation: ArcSwap::from_pointee(Rotation::new(config.policy, Duration::ZERO, Vec::new())),
            turns: AtomicU64::new(0),
            cut_offs: AtomicU64::new(0),
            started: Instant::now(),
            table: Mutex::new(table),
            log,
            deadline_added: Notify::new(),
            room: Arc::default(),
        };
        servers.configure(config);
        servers
    }

    /// Takes a new configuration over: servers that stay keep their state, even under another weight.
    pub(crate) fn configure(&self, config: &Config) {
        let mut table = self.lock();
        let old = std::mem::take(&mut table.servers);
        table.servers = config
            .servers
            .iter()
            .map(|wanted| {
                let known = old
                    .iter()
                    .find(|server| *server.name == *wanted.name && server.address == wanted.address);
                if let Some(server) = known {
                    server.weight.store(wanted.weight.into(), Ordering::Relaxed);
                    server.max_requests.store(wanted.max_connections as usize, Ordering::Relaxed);
                    server.pipeline.store(wanted.pipeline.into(), Ordering::Relaxed);
                    return Arc::clone(server);
                }
                Arc::new(Server::new(wanted, Arc::clone(&self.room)))
            })
            .collect();
        let Table { servers, ejected, leaving, .. } = &mut *table;
        ejected.retain(|(server, _)| servers.iter().any(|other| Arc::ptr_eq(other, server)));
        // A server that is no longer named gets no request any more, whoever still holds it.
        for gone in old.iter().filter(|old| !servers.iter().any(|server| Arc::ptr_eq(old, server))) {
            gone.draining.store(true, Ordering::Relaxed);
            leaving.push((Arc::clone(gone), Instant::now() + config.drain));
            self.deadline_added.notify_one();
        }
        table.policy = config.policy;
        table.health = config.health.clone();
        self.publish(&mut table);
    }

    /// Picks a server for a request; see [`Rotation::pick`].
    pub(crate) fn pick(&self, key: u64, tried: &[Arc<Server>]) -> Selection {
        self.rotation.load().pick(&self.turns, key, tried, || self.now())
    }

    /// All servers, in rotation or not.
    pub(crate) fn all(&self) -> Vec<Arc<Server>> {
        self.lock().servers.clone()
    }

    /// The server of this name.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<Server>> {
        self.lock().servers.iter().find(|server| &*server.name == name).cloned()
    }

    /// Whether there is a server that passes its checks and takes new requests.
    pub(crate) fn is_ready(&self) -> bool {
        self.lock()
            .servers
            .iter()
            .any(|server| server.standing() < Standing::Down && !server.draining.load(Ordering::Relaxed))
    }

    /// A number that changes whenever there is something to be cut off.
    pub(crate) fn cut_offs(&self) -> u64 {
        self.cut_offs.load(Ordering::Acquire)
    }

    /// Milliseconds of the process's clock, never 0.
    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64 + 1
    }

    /// A sign of life: an answer to a request or a check has begun.
    pub(crate) fn heard(&self, server: &Server) {
        server.hear();
        if server.silent.load(Ordering::Relaxed) {
            self.set_silent(server, false);
        }
    }

    /// Passes a server over for new requests while it says nothing, as long as there are others.
    pub(crate) fn set_silent(&self, server: &Server, silent: bool) {
        let mut table = self.lock();
        if server.silent.swap(silent, Ordering::AcqRel) == silent {
            return;
        }
        let name = &server.name;
        self.log.event(if silent {
            BalancerEvent::ServerSilent { server: name, requests: server.held() }
        } else {
            BalancerEvent::ServerUp { server: name }
        });
        self.publish(&mut table);
    }

    /// Whether the last active check could connect.
    pub(crate) fn set_reachable(&self, server: &Server, reachable: bool) {
        let mut table = self.lock();
        if server.unreachable.swap(!reachable, Ordering::AcqRel) == reachable {
            self.publish(&mut table);
        }
    }

    /// An active check's verdict.
    pub(crate) fn set_health(&self, server: &Arc<Server>, healthy: bool, reason: &str) {
        let mut table = self.lock();
        if server.healthy.swap(healthy, Ordering::AcqRel) == healthy {
            return;
        }
        if healthy {
            self.log.event(BalancerEvent::ServerUp { server: &server.name });
            // What failed before was on a server that was going down; this verdict is the newer one.
            server.forgive();
            server.ejections.store(0, Ordering::Relaxed);
            server.ejected.store(false, Ordering::Release);
            server.silent.store(false, Ordering::Release);
            table.ejected.retain(|(other, _)| !Arc::ptr_eq(other, server));
            server.back_since.store(self.now(), Ordering::Relaxed);
        } else {
            self.log.event(BalancerEvent::ServerDown { server: &server.name, reason });
        }
        self.publish(&mut table);
    }

    /// No connection to this server could be made, or it did not answer: enough of them in a row throw it out,
    /// unless it is the last.
    pub(crate) fn request_failed(&self, server: &Arc<Server>) {
        let failures = server.failed();
        let mut table = self.lock();
        if failures < table.health.ejection_failures.get() || server.standing() >= Standing::Ejected {
            return;
        }
        let others = table.servers.iter().any(|other| !Arc::ptr_eq(other, server) && other.is_available());
        if !others {
            return;
        }
        if self.now() > server.remembered_until.load(Ordering::Relaxed) {
            server.ejections.store(0, Ordering::Relaxed);
        }
        let times = server.ejections.fetch_add(1, Ordering::Relaxed).min(16);
        let length =
            table.health.ejection_time.saturating_mul(1 << times).min(table.health.ejection_time_max);
        let remembered = length + table.health.ejection_time_max;
        server.remembered_until.store(self.now() + remembered.as_millis() as u64, Ordering::Relaxed);
        server.ejected.store(true, Ordering::Release);
        table.ejected.push((Arc::clone(server), Instant::now() + length));
        self.log.event(BalancerEvent::ServerEjected {
            server: &server.name,
            failures,
            seconds: length.as_secs_f64(),
        });
        self.publish(&mut table);
        self.deadline_added.notify_one();
    }

    /// Takes back whoever's ejection is over, has what removed servers still hold cut off when its time is over, and
    /// returns when the next deadline is.
    pub(crate) fn end_deadlines(&self, now: Instant) -> Option<Instant> {
        let mut table = self.lock();
        let before = table.ejected.len();
        table.ejected.retain(|(server, until)| {
            if *until > now {
                return true;
            }
            server.forgive();
            server.back_since.store(self.now(), Ordering::Relaxed);
            server.ejected.store(false, Ordering::Release);
            self.log.event(BalancerEvent::ServerUp { server: &server.name });
            false
        });
        if table.ejected.len() != before {
            self.publish(&mut table);
        }
        table.leaving.retain(|(server, until)| {
            let is_over = *until <= now;
            if is_over {
                server.cut_off.store(true, Ordering::Release);
                self.cut_offs.fetch_add(1, Ordering::AcqRel);
            }
            !is_over && server.in_flight() > 0
        });
        table.ejected.iter().chain(&table.leaving).map(|(_, until)| *until).min()
    }

    /// Takes a server out of rotation for an operator, or puts it back; its requests in flight go on.
    pub(crate) fn set_draining(&self, server: &Arc<Server>, draining: bool) {
        let mut table = self.lock();
        if server.draining.swap(draining, Ordering::AcqRel) != draining {
            self.publish(&mut table);
        }
    }

    fn publish(&self, table: &mut Table) {
        let takes_requests = |server: &&Arc<Server>| !server.draining.load(Ordering::Relaxed);
        let mut rotation = None;
        for standing in Standing::WORST_FIRST {
            let servers: Vec<Arc<Server>> = table
                .servers
                .iter()
                .filter(|server| takes_requests(server) && server.standing() == standing)
                .cloned()
                .collect();
            if !servers.is_empty() {
                let best = Rotation::new(table.policy, table.health.slow_start, servers);
                rotation = Some(best.before(rotation));
            }
        }
        let passes = |server: &Arc<Server>| server.standing() < Standing::Down;
        let is_panicking = !table.servers.is_empty() && !table.servers.iter().any(passes);
        if is_panicking && !std::mem::replace(&mut table.is_panicking, is_panicking) {
            self.log.event(BalancerEvent::NoServerPasses);
        }
        table.is_panicking = is_panicking;
        let rotation =
            rotation.unwrap_or_else(|| Rotation::new(table.policy, table.health.slow_start, Vec::new()));
        self.rotation.store(Arc::new(rotation));
        self.room.notify_waiters();
    }

    /// A panic while holding the lock leaves at worst a rotation that is not published yet.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
