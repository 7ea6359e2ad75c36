//! Limits: connections in total and per client, and a rate limit of requests per client (token bucket).

use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::{FxBuildHasher, FxHashMap};
use tokio::sync::Notify;

use crate::client_key::key;
use crate::config::{Config, Limits as Rules};

/// Shards of the clients' map, each with its own lock, so that workers rarely contend.
const SHARDS: usize = 16;

/// The current usage of all clients.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    connections: AtomicUsize,
    /// Notified when a connection closes while the limit is reached.
    closed: Notify,
    shards: [Mutex<FxHashMap<u128, Account>>; SHARDS],
}

#[derive(Debug)]
struct Account {
    connections: usize,
    /// Tokens of the bucket, as of `refilled`.
    tokens: f64,
    refilled: Instant,
}

impl Limits {
    /// The number of open client connections.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Waits until fewer connections are open than the limit.
    pub(crate) async fn wait_for_capacity(&self, rules: &Rules) {
        while rules.connections != 0 && self.connections() >= rules.connections {
            let mut closed = std::pin::pin!(self.closed.notified());
            closed.as_mut().enable();
            if self.connections() >= rules.connections {
                closed.await;
            }
        }
    }

    /// Counts a connection; false, and nothing counted, when the client has reached its limit.
    pub(crate) fn connect(&self, config: &Config, client: IpAddr, now: Instant) -> bool {
        let rules = &config.limits;
        let is_limited = !config.trusted_proxies.iter().any(|network| network.contains(&client));
        if rules.connections_per_client != 0 && is_limited {
            let mut shard = self.shard(client);
            let account = shard.entry(key(client)).or_insert_with(|| Account::new(rules, now));
            if account.connections >= rules.connections_per_client {
                return false;
            }
            account.connections += 1;
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Ends the count of a connection.
    pub(crate) fn disconnect(&self, rules: &Rules, client: IpAddr) {
        let before = self.connections.fetch_sub(1, Ordering::Relaxed);
        if rules.connections != 0 && before >= rules.connections {
            self.closed.notify_waiters();
        }
        let mut shard = self.shard(client);
        if let Some(account) = shard.get_mut(&key(client)) {
            account.connections = account.connections.saturating_sub(1);
            if account.connections == 0 && rules.requests_per_second == 0 {
                shard.remove(&key(client));
            }
        }
    }

    /// Takes one token from the client's bucket.
    ///
    /// # Errors
    /// The rate limit is reached; the time until the next token.
    pub(crate) fn request(&self, rules: &Rules, client: IpAddr, now: Instant) -> Result<(), Duration> {
        if rules.requests_per_second == 0 {
            return Ok(());
        }
        let mut shard = self.shard(client);
        let account = shard.entry(key(client)).or_insert_with(|| Account::new(rules, now));
        account.refill(rules, now);
        if account.tokens < 1.0 {
            let missing = (1.0 - account.tokens) / f64::from(rules.requests_per_second);
            return Err(Duration::from_secs_f64(missing));
        }
        account.tokens -= 1.0;
        Ok(())
    }

    /// Drops the state of clients without connections and with a full bucket.
    pub(crate) fn sweep(&self, rules: &Rules, now: Instant) {
        for shard in &self.shards {
            lock(shard).retain(|_, account| {
                account.refill(rules, now);
                account.connections > 0 || account.tokens < bucket_size(rules)
            });
        }
    }

    fn shard(&self, client: IpAddr) -> MutexGuard<'_, FxHashMap<u128, Account>> {
        lock(&self.shards[(FxBuildHasher.hash_one(key(client)) >> 32) as usize % SHARDS])
    }
}

impl Account {
    fn new(rules: &Rules, now: Instant) -> Self {
        Self { connections: 0, tokens: bucket_size(rules), refilled: now }
    }

    fn refill(&mut self, rules: &Rules, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.tokens = (self.tokens + passed * f64::from(rules.requests_per_second)).min(bucket_size(rules));
        self.refilled = now;
    }
}

/// The size of a client's bucket: the configured burst, and at least one.
fn bucket_size(rules: &Rules) -> f64 {
    f64::from(rules.request_burst.max(1))
}

/// Ignores poisoning: a panic under the lock leaves at worst one count that is off by one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const BOB: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn a_bucket_holds_its_burst_and_refills_with_time() {
        let rules = Rules { requests_per_second: 10, request_burst: 3, ..Rules::default() };
        let limits = Limits::default();
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(limits.request(&rules, ANN, start), Ok(()));
        }
        assert_eq!(limits.request(&rules, ANN, start), Err(Duration::from_millis(100)));
        assert_eq!(limits.request(&rules, BOB, start), Ok(()));
        assert_eq!(limits.request(&rules, ANN, start + Duration::from_millis(100)), Ok(()));
        assert!(limits.request(&rules, ANN, start + Duration::from_millis(100)).is_err());
        limits.sweep(&rules, start + Duration::from_secs(10));
        assert!(limits.shards.iter().all(|shard| lock(shard).is_empty()));
    }

    #[test]
    fn each_client_has_its_own_limit_and_an_ipv6_network_is_one_client() {
        let rules = Rules { connections_per_client: 2, ..Rules::default() };
        let config = Config { limits: rules.clone(), ..Config::default() };
        let limits = Limits::default();
        let now = Instant::now();
        let neighbours: [IpAddr; 3] =
            ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(|text| text.parse().unwrap());
        assert!(limits.connect(&config, neighbours[0], now) && limits.connect(&config, neighbours[1], now));
        assert!(!limits.connect(&config, neighbours[2], now));
        assert!(limits.connect(&config, ANN, now));
        limits.disconnect(&rules, neighbours[0]);
        assert!(limits.connect(&config, neighbours[2], now));
        assert_eq!(limits.connections(), 3);
    }
}
