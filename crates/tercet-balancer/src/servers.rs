//! A backend pool: its servers, and the rotation made of them.
//!
//! Selection is lock-free. A change (a health check result, an ejection, a drain, a reload) takes a lock and
//! publishes a new rotation. This module does not depend on how servers are checked.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tercet_observe::LogHandle;
use tercet_observe::event::BalancerEvent;
use tokio::sync::Notify;

use crate::config::{BackendPool, Health, Policy, Retries};
use crate::permit::Permit;
use crate::rotation::{Rotation, Selection};
use crate::server::{Server, Standing};

/// The standings, and whether they are those of backups, the worst first. A backup precedes a server that is out of
/// rotation, but not one that is slow.
const WORST_FIRST: [(Standing, bool); 10] = [
    (Standing::Unreachable, true),
    (Standing::Unreachable, false),
    (Standing::Down, true),
    (Standing::Down, false),
    (Standing::Ejected, true),
    (Standing::Ejected, false),
    (Standing::Silent, true),
    (Standing::Up, true),
    (Standing::Silent, false),
    (Standing::Up, false),
];

/// The servers of a backend pool and the rotation made of them.
#[derive(Debug)]
pub(crate) struct Servers {
    /// The pool's name.
    pub(crate) pool: Box<str>,
    rotation: ArcSwap<Rotation>,
    /// Selections so far: the position in the round-robin order.
    selections: AtomicU64,
    started: Instant,
    table: Mutex<Table>,
    log: LogHandle,
    deadlines: Arc<Deadlines>,
    /// Notified when a request ends on a server that has a limit, or the rotation changes.
    pub(crate) capacity_freed: Arc<Notify>,
    /// Requests in the queue.
    queued: AtomicUsize,
    /// Retries in flight.
    retrying: AtomicUsize,
}

/// The deadlines of servers, in all backend pools.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// Notified when an ejection or a removal adds one.
    pub(crate) added: Notify,
    /// Incremented when the remaining requests of a removed server have to be cut off.
    pub(crate) cut_offs: AtomicU64,
}

#[derive(Debug)]
struct Table {
    servers: Vec<Arc<Server>>,
    policy: Policy,
    health: Health,
    /// Ejected servers and the end of each ejection.
    ejected: Vec<(Arc<Server>, Instant)>,
    /// Servers removed from the configuration, and when their remaining requests are cut off.
    removed: Vec<(Arc<Server>, Instant)>,
    /// Panic mode: no server passes its health checks, and requests go to failing ones.
    is_panicking: bool,
}

impl Servers {
    /// The backend pool of this name, which has no servers before [`configure`](Self::configure).
    pub(crate) fn new(pool: &str, log: LogHandle, deadlines: Arc<Deadlines>) -> Self {
        let table = Table {
            servers: Vec::new(),
            policy: Policy::default(),
            health: Health::default(),
            ejected: Vec::new(),
            removed: Vec::new(),
            is_panicking: false,
        };
        Self {
            pool: pool.into(),
            rotation: ArcSwap::from_pointee(Rotation::new(table.policy, Duration::ZERO, Vec::new())),
            selections: AtomicU64::new(0),
            started: Instant::now(),
            table: Mutex::new(table),
            log,
            deadlines,
            capacity_freed: Arc::default(),
            queued: AtomicUsize::new(0),
            retrying: AtomicUsize::new(0),
        }
    }

    /// Applies a configuration: a server with the same name and address keeps its state. Removed servers have the time `drain`
    /// for their requests in flight.
    pub(crate) fn configure(&self, options: &BackendPool<'_>, drain: Duration) {
        let mut table = self.lock();
        let old = std::mem::take(&mut table.servers);
        table.servers = options
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
                    server.backup.store(wanted.backup, Ordering::Relaxed);
                    return Arc::clone(server);
                }
                Arc::new(Server::new(wanted, Arc::clone(&self.capacity_freed)))
            })
            .collect();
        self.remove(&mut table, old, drain);
        table.policy = options.policy;
        table.health = options.health.clone();
        self.publish(&mut table);
    }

    /// Removes all servers: the pool is no longer in the configuration. A request whose route was selected before still gets a
    /// server from its last rotation.
    pub(crate) fn remove_all(&self, drain: Duration) {
        let mut table = self.lock();
        let old = std::mem::take(&mut table.servers);
        self.remove(&mut table, old, drain);
    }

    /// Removes those of the `old` servers that are not in the table.
    fn remove(&self, table: &mut Table, old: Vec<Arc<Server>>, drain: Duration) {
        let Table { servers, ejected, removed, .. } = table;
        let is_there = |server: &Arc<Server>| servers.iter().any(|other| Arc::ptr_eq(other, server));
        ejected.retain(|(server, _)| is_there(server));
        // Tasks may still hold a reference to a removed server, so it is marked as draining.
        for gone in old.into_iter().filter(|server| !is_there(server)) {
            gone.draining.store(true, Ordering::Relaxed);
            removed.push((gone, Instant::now() + drain));
            self.deadlines.added.notify_one();
        }
    }

    /// Selects a server for a request; see [`Rotation::select`].
    pub(crate) fn select(&self, key: u64, tried: &[Arc<Server>]) -> Selection {
        self.rotation.load().select(&self.selections, key, tried, || self.now())
    }

    /// All configured servers, in rotation or not.
    pub(crate) fn all(&self) -> Vec<Arc<Server>> {
        self.lock().servers.clone()
    }

    /// The server of this name.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<Server>> {
        self.lock().servers.iter().find(|server| &*server.name == name).cloned()
    }

    /// Whether a server passes its health checks and is not draining.
    pub(crate) fn is_ready(&self) -> bool {
        self.lock()
            .servers
            .iter()
            .any(|server| server.standing() < Standing::Down && !server.draining.load(Ordering::Relaxed))
    }

    /// A permit to wait in the queue for a server; `None` when `limit` requests wait already.
    pub(crate) fn queue(&self, limit: usize) -> Option<Permit<'_>> {
        Permit::acquire(&self.queued, limit)
    }

    /// A permit to retry a request; `None` when the retry budget is exhausted.
    pub(crate) fn retry(&self, options: &Retries) -> Option<Permit<'_>> {
        let in_flight: usize = self.lock().servers.iter().map(|server| server.in_flight()).sum();
        let budget = in_flight * options.budget_percent as usize / 100;
        Permit::acquire(&self.retrying, budget.max(options.budget_minimum as usize))
    }

    /// Milliseconds of the process's clock, never 0.
    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64 + 1
    }

    /// Records that a response to a request or a health check began.
    pub(crate) fn response_began(&self, server: &Server) {
        server.count_response();
        if server.silent.load(Ordering::Relaxed) {
            self.set_silent(server, false);
        }
    }

    /// Sets whether a server does not respond: new requests then go to the others.
    pub(crate) fn set_silent(&self, server: &Server, silent: bool) {
        let mut table = self.lock();
        if server.silent.swap(silent, Ordering::AcqRel) == silent {
            return;
        }
        if silent {
            let requests = server.awaiting_response();
            self.log.event(BalancerEvent::ServerSilent { pool: &self.pool, server: &server.name, requests });
        } else if server.standing() == Standing::Up {
            self.log_up(server);
        }
        self.publish(&mut table);
    }

    /// Sets whether the last health check could connect.
    pub(crate) fn set_reachable(&self, server: &Server, reachable: bool) {
        let mut table = self.lock();
        if server.unreachable.swap(!reachable, Ordering::AcqRel) == reachable {
            self.publish(&mut table);
        }
    }

    /// Sets whether the health checks pass; `reason` is that of a failure.
    pub(crate) fn set_health(&self, server: &Arc<Server>, healthy: bool, reason: &str) {
        let mut table = self.lock();
        if server.healthy.swap(healthy, Ordering::AcqRel) == healthy {
            return;
        }
        if healthy {
            self.log_up(server);
            // Earlier failures are outdated by this result.
            server.reset_failures();
            server.ejections.store(0, Ordering::Relaxed);
            server.ejected.store(false, Ordering::Release);
            server.silent.store(false, Ordering::Release);
            table.ejected.retain(|(other, _)| !Arc::ptr_eq(other, server));
            server.slow_start_began.store(self.now(), Ordering::Relaxed);
        } else {
            self.log.event(BalancerEvent::ServerDown { pool: &self.pool, server: &server.name, reason });
        }
        self.publish(&mut table);
    }

    /// Records a request that failed for want of a connection or a response. Enough consecutive failures eject the
    /// server, unless no other is available.
    pub(crate) fn request_failed(&self, server: &Arc<Server>) {
        let failures = server.record_failure();
        let mut table = self.lock();
        if failures < table.health.ejection_failures.get() || server.standing() >= Standing::Ejected {
            return;
        }
        let others = table.servers.iter().any(|other| !Arc::ptr_eq(other, server) && other.is_available());
        if !others {
            return;
        }
        if self.now() > server.ejections_expire.load(Ordering::Relaxed) {
            server.ejections.store(0, Ordering::Relaxed);
        }
        let times = server.ejections.fetch_add(1, Ordering::Relaxed).min(16);
        let length =
            table.health.ejection_time.saturating_mul(1 << times).min(*table.health.ejection_time_max);
        let memory = length + *table.health.ejection_time_max;
        server.ejections_expire.store(self.now() + memory.as_millis() as u64, Ordering::Relaxed);
        server.ejected.store(true, Ordering::Release);
        table.ejected.push((Arc::clone(server), Instant::now() + length));
        self.log.event(BalancerEvent::ServerEjected {
            pool: &self.pool,
            server: &server.name,
            failures,
            seconds: length.as_secs_f64(),
        });
        self.publish(&mut table);
        self.deadlines.added.notify_one();
    }

    /// Ends the ejections and cuts off the requests of removed servers whose deadline is reached. Returns the next
    /// deadline.
    pub(crate) fn end_deadlines(&self, now: Instant) -> Option<Instant> {
        let mut table = self.lock();
        let before = table.ejected.len();
        table.ejected.retain(|(server, until)| {
            if *until > now {
                return true;
            }
            server.reset_failures();
            server.slow_start_began.store(self.now(), Ordering::Relaxed);
            server.ejected.store(false, Ordering::Release);
            // It may be down meanwhile, or silent.
            if server.standing() == Standing::Up {
                self.log_up(server);
            }
            false
        });
        if table.ejected.len() != before {
            self.publish(&mut table);
        }
        table.removed.retain(|(server, until)| {
            let is_over = *until <= now;
            if is_over {
                server.cut_off.store(true, Ordering::Release);
                self.deadlines.cut_offs.fetch_add(1, Ordering::AcqRel);
            }
            !is_over && server.in_flight() > 0
        });
        table.ejected.iter().chain(&table.removed).map(|(_, until)| *until).min()
    }

    /// Takes a server out of rotation, or puts it back; its requests in flight continue.
    pub(crate) fn set_draining(&self, server: &Arc<Server>, draining: bool) {
        let mut table = self.lock();
        if server.draining.swap(draining, Ordering::AcqRel) != draining {
            self.publish(&mut table);
        }
    }

    fn log_up(&self, server: &Server) {
        self.log.event(BalancerEvent::ServerUp { pool: &self.pool, server: &server.name });
    }

    fn publish(&self, table: &mut Table) {
        if table.servers.is_empty() {
            // The pool was removed.
            return;
        }
        let takes_requests = |server: &&Arc<Server>| !server.draining.load(Ordering::Relaxed);
        let mut rotation = None;
        for (standing, backup) in WORST_FIRST {
            let is_in_group = |server: &&Arc<Server>| {
                server.standing() == standing && server.backup.load(Ordering::Relaxed) == backup
            };
            let servers: Vec<Arc<Server>> =
                table.servers.iter().filter(takes_requests).filter(is_in_group).cloned().collect();
            if !servers.is_empty() {
                let best = Rotation::new(table.policy, *table.health.slow_start, servers);
                rotation = Some(best.with_fallback(rotation));
            }
        }
        let passes = |server: &Arc<Server>| server.standing() < Standing::Down;
        let is_panicking = !table.servers.iter().any(passes);
        if is_panicking && !std::mem::replace(&mut table.is_panicking, is_panicking) {
            self.log.event(BalancerEvent::NoServerPasses { pool: &self.pool });
        }
        table.is_panicking = is_panicking;
        let rotation =
            rotation.unwrap_or_else(|| Rotation::new(table.policy, *table.health.slow_start, Vec::new()));
        self.rotation.store(Arc::new(rotation));
        self.capacity_freed.notify_waiters();
    }

    /// Ignores poisoning: a panic under the lock leaves at worst a rotation that is not published yet.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tercet_observe::log::Destination;
    use tercet_observe::{Format, Log};

    use super::*;
    use crate::config::Config;

    #[test]
    fn a_server_that_is_down_is_not_up_when_its_ejection_ends() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("events.log");
        let log = Log::open("balancer", Destination::File(file.clone()), Format::Text).unwrap();
        let text = "servers = ['127.0.0.1:1', '127.0.0.1:2']\nhealth.ejection-failures = 1";
        let config = Config::parse(text, "a").unwrap();
        let servers = Servers::new("application", log.handle(), Arc::default());
        servers.configure(&config.pools()[0], *config.drain);
        let ejected = &servers.all()[0];
        servers.request_failed(ejected);
        servers.set_silent(ejected, true);
        servers.set_health(ejected, false, "connection refused");
        servers.set_silent(ejected, false);
        servers.end_deadlines(Instant::now() + Duration::from_hours(1));
        assert_eq!(ejected.standing(), Standing::Down);
        servers.set_health(ejected, true, "");
        drop(log);
        let events = std::fs::read_to_string(file).unwrap();
        let part = |line: &'static str| events.lines().filter(|event| event.contains(line)).count();
        assert_eq!([part(" is ejected "), part(" is down: "), part(" is up")], [1, 1, 1], "{events}");
    }
}
