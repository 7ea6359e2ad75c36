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
use crate::rotation::{Pick, Rotation};
use crate::server::Server;

/// The servers and the rotation made of them.
#[derive(Debug)]
pub(crate) struct Servers {
    rotation: ArcSwap<Rotation>,
    turns: AtomicU64,
    /// Raised with every new rotation.
    generation: AtomicU64,
    started: Instant,
    table: Mutex<Table>,
    log: LogHandle,
    /// Told when an ejection was added, whose end somebody has to wait for.
    pub(crate) ejection_added: Notify,
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
}

impl Servers {
    pub(crate) fn new(config: &Config, log: LogHandle) -> Self {
        let table = Table {
            servers: Vec::new(),
            policy: config.policy,
            health: config.health.clone(),
            ejected: Vec::new(),
        };
        let servers = Self {
            rotation: ArcSwap::from_pointee(Rotation::new(config.policy, Duration::ZERO, Vec::new())),
            turns: AtomicU64::new(0),
            generation: AtomicU64::new(0),
            started: Instant::now(),
            table: Mutex::new(table),
            log,
            ejection_added: Notify::new(),
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
        let Table { servers, ejected, .. } = &mut *table;
        ejected.retain(|(server, _)| servers.iter().any(|other| Arc::ptr_eq(other, server)));
        // A server that is no longer named gets no request any more, whoever still holds it.
        for gone in old.iter().filter(|old| !servers.iter().any(|server| Arc::ptr_eq(old, server))) {
            gone.draining.store(true, Ordering::Relaxed);
        }
        table.policy = config.policy;
        table.health = config.health.clone();
        self.publish(&table);
    }

    /// Picks a server for a request; see [`Rotation::pick`].
    pub(crate) fn pick(&self, key: u64, tried: &[Arc<Server>]) -> Pick {
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

    /// How many servers may get requests.
    pub(crate) fn available(&self) -> usize {
        self.rotation.load().servers().len()
    }

    /// A number that changes whenever the rotation does.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Milliseconds of the process's clock, never 0.
    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64 + 1
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
            table.ejected.retain(|(other, _)| !Arc::ptr_eq(other, server));
            server.back_since.store(self.now(), Ordering::Relaxed);
        } else {
            self.log.event(BalancerEvent::ServerDown { server: &server.name, reason });
        }
        self.publish(&table);
    }

    /// A request on this server failed through the server's fault: enough of them in a row throw it out,
    /// unless it is the last.
    pub(crate) fn request_failed(&self, server: &Arc<Server>) {
        let failures = server.failed();
        let mut table = self.lock();
        if failures < table.health.ejection_failures.get() || !server.is_alive() {
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
        self.publish(&table);
        self.ejection_added.notify_one();
    }

    /// Takes back whoever's ejection is over, and returns when the next one is.
    pub(crate) fn end_ejections(&self, now: Instant) -> Option<Instant> {
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
            self.publish(&table);
        }
        table.ejected.iter().map(|(_, until)| *until).min()
    }

    /// Takes a server out of rotation for an operator, or puts it back; its requests in flight go on.
    pub(crate) fn set_draining(&self, server: &Arc<Server>, draining: bool) {
        let table = self.lock();
        if server.draining.swap(draining, Ordering::AcqRel) != draining {
            self.publish(&table);
        }
    }

    fn publish(&self, table: &Table) {
        let mut available: Vec<Arc<Server>> =
            table.servers.iter().filter(|server| server.is_available()).cloned().collect();
        if available.is_empty() {
            // Ejection is a guess from few failures: if it leaves nobody, the guess is not acted on.
            let not_checked_dead = |server: &&Arc<Server>| {
                server.healthy.load(Ordering::Relaxed) && !server.draining.load(Ordering::Relaxed)
            };
            available = table.servers.iter().filter(not_checked_dead).cloned().collect();
        }
        if available.is_empty() && !table.servers.is_empty() {
            self.log.event(BalancerEvent::NoServerLeft);
        }
        self.rotation.store(Arc::new(Rotation::new(table.policy, table.health.slow_start, available)));
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.room.notify_waiters();
    }

    /// A panic while holding the lock leaves at worst a rotation that is not published yet.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
