//! The backend pools of the configuration in force.
//!
//! A server is reached through its pool only: by the route of a request, or by its name, which is unique in all pools. This
//! module does not know routes.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tercet_observe::LogHandle;
use tokio::sync::Notify;

use crate::config::Config;
use crate::server::Server;
use crate::servers::{Deadlines, Servers};

/// All backend pools.
#[derive(Debug)]
pub(crate) struct Pools {
    table: Mutex<Table>,
    deadlines: Arc<Deadlines>,
    log: LogHandle,
}

#[derive(Debug, Default)]
struct Table {
    /// Those of the configuration, in its order.
    pools: Vec<Arc<Servers>>,
    /// Pools removed from the configuration that have requests in flight.
    removed: Vec<Arc<Servers>>,
}

impl Pools {
    /// No pool yet; the events of pools go to `log`.
    pub(crate) fn new(log: LogHandle) -> Self {
        Self { table: Mutex::default(), deadlines: Arc::default(), log }
    }

    /// The pools of a configuration, in its order: those that are there by their names, and new ones, which have no servers
    /// before [`configure`](Self::configure).
    pub(crate) fn prepare(&self, options: &Config) -> Vec<Arc<Servers>> {
        let table = self.lock();
        let prepared = |name: &str| match table.pools.iter().find(|pool| *pool.pool == *name) {
            Some(pool) => Arc::clone(pool),
            None => Arc::new(Servers::new(name, self.log.clone(), Arc::clone(&self.deadlines))),
        };
        options.pools().iter().map(|pool| prepared(pool.name)).collect()
    }

    /// Puts the pools that were prepared for a configuration in force, and removes all others.
    pub(crate) fn configure(&self, options: &Config, prepared: Vec<Arc<Servers>>) {
        let Table { pools, removed } = &mut *self.lock();
        for (options_of_pool, pool) in options.pools().iter().zip(&prepared) {
            pool.configure(options_of_pool, *options.drain);
        }
        for before in std::mem::replace(pools, prepared) {
            if !pools.iter().any(|pool| Arc::ptr_eq(pool, &before)) {
                before.remove_all(*options.drain);
                removed.push(before);
            }
        }
    }

    /// The pools of the configuration.
    pub(crate) fn all(&self) -> Vec<Arc<Servers>> {
        self.lock().pools.clone()
    }

    /// The server of this name, and its pool.
    pub(crate) fn server_named(&self, name: &str) -> Option<(Arc<Servers>, Arc<Server>)> {
        self.lock().pools.iter().find_map(|pool| Some((Arc::clone(pool), pool.named(name)?)))
    }

    /// Whether a server of any pool passes its health checks and is not draining.
    pub(crate) fn are_ready(&self) -> bool {
        self.lock().pools.iter().any(|pool| pool.is_ready())
    }

    /// A counter that changes whenever requests have to be cut off.
    pub(crate) fn cut_offs(&self) -> u64 {
        self.deadlines.cut_offs.load(Ordering::Acquire)
    }

    /// Notified when a pool has a new deadline.
    pub(crate) fn deadline_added(&self) -> &Notify {
        &self.deadlines.added
    }

    /// Ends what has reached its deadline, see [`Servers::end_deadlines`]. Returns the next deadline.
    pub(crate) fn end_deadlines(&self, now: Instant) -> Option<Instant> {
        let Table { pools, removed } = &mut *self.lock();
        let mut next = pools.iter().filter_map(|pool| pool.end_deadlines(now)).min();
        removed.retain(|pool| {
            let until = pool.end_deadlines(now);
            next = next.into_iter().chain(until).min();
            until.is_some()
        });
        next
    }

    /// Ignores poisoning: the lists are changed by single assignments.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tercet_observe::log::Destination;
    use tercet_observe::{Format, Log};

    use super::*;
    use crate::config::Retries;
    use crate::rotation::Selection;

    fn configured(pools: &Pools, text: &str) -> Vec<Arc<Servers>> {
        let config = Config::parse(text, "a").unwrap_or_else(|mistakes| panic!("{}", mistakes.lines()));
        let prepared = pools.prepare(&config);
        pools.configure(&config, prepared.clone());
        prepared
    }

    #[test]
    fn a_removed_pool_serves_requests_whose_route_was_selected_until_the_drain_time_ends() {
        let log = Log::open("balancer", Destination::Discard, Format::Text).unwrap();
        let pools = Pools::new(log.handle());
        let one = "servers = ['127.0.0.1:1']\n";
        let two =
            format!("{one}[pool.api]\nservers = ['127.0.0.1:2']\n[[route]]\npath = '/api'\nto = 'api'\n");
        let before = configured(&pools, &two);
        let Selection::Server(early) = before[1].select(0, &[]) else { panic!("no server") };
        let after = configured(&pools, one);
        assert!(after.len() == 1 && Arc::ptr_eq(&before[0], &after[0]), "the other pool stays");
        let Selection::Server(late) = before[1].select(0, &[]) else { panic!("no server") };
        before[1].set_silent(&late, true);
        before[1].request_failed(&late);
        drop(late);
        let Selection::Server(late) = before[1].select(0, &[]) else { panic!("no server") };
        let now = Instant::now();
        assert!(pools.end_deadlines(now).is_some_and(|until| until > now));
        assert_eq!((early.is_cut_off(), pools.cut_offs()), (false, 0));
        assert_eq!(pools.end_deadlines(now + Duration::from_hours(1)), None);
        assert_eq!((early.is_cut_off(), late.is_cut_off(), pools.cut_offs()), (true, true, 1));
        assert!(pools.lock().removed.is_empty());
        let again = configured(&pools, &two);
        assert!(!Arc::ptr_eq(&before[1], &again[1]), "a pool that comes back is new");
        assert!(pools.server_named("127.0.0.1:2").is_some_and(|(pool, _)| Arc::ptr_eq(&pool, &again[1])));
    }

    #[test]
    fn the_queue_and_the_retry_budget_of_a_pool_are_its_own() {
        let log = Log::open("balancer", Destination::Discard, Format::Text).unwrap();
        let pools = Pools::new(log.handle());
        let text =
            "servers = ['127.0.0.1:1']\n[pool.api]\nservers = ['127.0.0.1:2']\n[[route]]\nto = 'api'\n";
        let both = configured(&pools, text);
        let options = Retries { budget_minimum: 1, ..Retries::default() };
        let held = both.iter().map(|pool| (pool.queue(1), pool.retry(&options))).collect::<Vec<_>>();
        assert!(held.iter().all(|(place, retry)| place.is_some() && retry.is_some()), "{held:?}");
        assert!(both.iter().all(|pool| pool.queue(1).is_none() && pool.retry(&options).is_none()));
    }
}
