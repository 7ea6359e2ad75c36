//! Server selection: the servers currently eligible for requests, by standing, in the order of the balancing policy.
//!
//! A rotation is immutable; a new one is published when a server is added, removed, drained or changes its standing
//! or weight. Threads share one atomic counter, which gives strict round-robin: the n-th request of the whole process
//! gets the n-th entry of the sequence, whatever its thread and connection.

use std::hash::Hasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustc_hash::FxHasher;

use crate::config::Policy;
use crate::server::Server;

/// Points on the ring of consistent hashing per unit of weight: enough to spread keys evenly within a few percent.
const POINTS_PER_WEIGHT: u32 = 128;
/// The longest sequence of weighted round-robin; larger weights are scaled down.
const MAX_SEQUENCE: u32 = 4096;

/// The servers in rotation and their order.
#[derive(Debug)]
pub(crate) struct Rotation {
    policy: Policy,
    slow_start: Duration,
    /// Servers of equal standing.
    servers: Vec<Arc<Server>>,
    /// Indices into `servers`: each occurs as often as its weight says, spread evenly.
    sequence: Vec<u16>,
    /// Points of the hash ring and the index of each point's server, sorted.
    ring: Vec<(u64, u16)>,
    /// Servers of worse standing, for requests that were tried on all of these.
    fallback: Option<Box<Rotation>>,
}

/// Counts one request against a server's connection limit; decremented on drop.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Server>);

/// The outcome of selecting a server for a request.
#[derive(Debug)]
pub(crate) enum Selection {
    /// The selected server, with the request counted on it.
    Server(InFlight),
    /// Every untried server of the best standing has reached its connection limit.
    AtCapacity,
    /// There is no server that was not tried yet.
    NoneAvailable,
}

impl Rotation {
    pub(crate) fn new(policy: Policy, slow_start: Duration, servers: Vec<Arc<Server>>) -> Self {
        let weights: Vec<u32> =
            servers.iter().map(|server| server.weight.load(Ordering::Relaxed).max(1)).collect();
        let ring = if policy == Policy::Hash { ring(&servers, &weights) } else { Vec::new() };
        Self { policy, slow_start, sequence: smooth_sequence(&weights), ring, servers, fallback: None }
    }

    /// Sets the rotation of servers of worse standing.
    pub(crate) fn with_fallback(self, fallback: Option<Self>) -> Self {
        Self { fallback: fallback.map(Box::new), ..self }
    }

    /// The servers of the best standing.
    #[cfg(test)]
    pub(crate) fn servers(&self) -> &[Arc<Server>] {
        &self.servers
    }

    /// Selects the next server that is not in `tried`: one of the best standing, and when all of them were tried, one
    /// of the next best. `counter` counts the selections of the process, `key` is the hash policy's key, `now` returns
    /// milliseconds of the process's clock and is only called during a slow start.
    pub(crate) fn select(
        &self,
        counter: &AtomicU64,
        key: u64,
        tried: &[Arc<Server>],
        now: impl Fn() -> u64,
    ) -> Selection {
        let number = counter.fetch_add(1, Ordering::Relaxed);
        let mut rotation = self;
        loop {
            match (rotation.select_here(number, key, tried, &now), &rotation.fallback) {
                (Selection::NoneAvailable, Some(fallback)) => rotation = fallback,
                (selection, _) => return selection,
            }
        }
    }

    fn select_here(&self, number: u64, key: u64, tried: &[Arc<Server>], now: impl Fn() -> u64) -> Selection {
        if self.servers.is_empty() {
            return Selection::NoneAvailable;
        }
        // A server that has reached its slow-start limit is skipped, unless all others are at capacity.
        for ignore_slow_start in [false, true] {
            let found = self.find(number, key, |index| {
                let server = &self.servers[index];
                !tried.iter().any(|other| Arc::ptr_eq(other, server))
                    && (ignore_slow_start || !self.is_slow_start_limited(server, &now))
                    && server.try_acquire()
            });
            if let Some(index) = found {
                return Selection::Server(InFlight(Arc::clone(&self.servers[index])));
            }
        }
        let untried = |server: &Arc<Server>| !tried.iter().any(|other| Arc::ptr_eq(other, server));
        if self.servers.iter().any(untried) { Selection::AtCapacity } else { Selection::NoneAvailable }
    }

    /// The first server in the policy's order that `take` accepts.
    fn find(&self, number: u64, key: u64, mut take: impl FnMut(usize) -> bool) -> Option<usize> {
        let count = self.servers.len();
        match self.policy {
            Policy::RoundRobin => {
                let start = (number % self.sequence.len() as u64) as usize;
                let order = self.sequence[start..].iter().chain(&self.sequence[..start]);
                order.map(|index| usize::from(*index)).find(|index| take(*index))
            }
            Policy::LeastConnections => {
                let start = (number % count as u64) as usize;
                let mut order: Vec<usize> = (start..count).chain(0..start).collect();
                order.sort_by(|a, b| self.load(*a).total_cmp(&self.load(*b)));
                order.into_iter().find(|index| take(*index))
            }
            Policy::RandomTwo => {
                let random = mix(number);
                let one = (random % count as u64) as usize;
                let other = ((random >> 32) % count as u64) as usize;
                let (first, second) =
                    if self.load(one) <= self.load(other) { (one, other) } else { (other, one) };
                let rest = (0..count).filter(|index| *index != first && *index != second);
                [first, second].into_iter().chain(rest).find(|index| take(*index))
            }
            Policy::Hash => {
                let start = self.ring.partition_point(|(point, _)| *point < key);
                let order = self.ring[start..].iter().chain(&self.ring[..start]);
                let mut refused = vec![false; count];
                order
                    .map(|(_, index)| usize::from(*index))
                    .find(|index| !std::mem::replace(&mut refused[*index], true) && take(*index))
            }
        }
    }

    fn load(&self, index: usize) -> f64 {
        let server = &self.servers[index];
        (server.in_flight() + 1) as f64 / f64::from(server.weight.load(Ordering::Relaxed).max(1))
    }

    /// Whether a server in slow start has reached its limit of requests in flight: a fraction of the others' average
    /// that grows linearly to 1 over the slow-start time.
    fn is_slow_start_limited(&self, server: &Server, now: impl Fn() -> u64) -> bool {
        let began = server.slow_start_began.load(Ordering::Relaxed);
        if began == 0 || self.slow_start.is_zero() {
            return false;
        }
        let fraction = now().saturating_sub(began) as f64 / self.slow_start.as_millis() as f64;
        if fraction >= 1.0 {
            server.slow_start_began.store(0, Ordering::Relaxed);
            return false;
        }
        let all: usize = self.servers.iter().map(|server| server.in_flight()).sum();
        let others = all - server.in_flight().min(all);
        let average = others as f64 / (self.servers.len().max(2) - 1) as f64;
        server.in_flight() as f64 > average * fraction
    }
}

impl std::ops::Deref for InFlight {
    type Target = Arc<Server>;

    fn deref(&self) -> &Arc<Server> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// The order of smooth weighted round-robin (nginx's algorithm): a server's entries are spread evenly.
fn smooth_sequence(weights: &[u32]) -> Vec<u16> {
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let mut weights: Vec<u32> = weights.iter().map(|weight| weight / divisor).collect();
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    if total > u64::from(MAX_SEQUENCE) {
        for weight in &mut weights {
            *weight = (u64::from(*weight) * u64::from(MAX_SEQUENCE) / total).max(1) as u32;
        }
    }
    let total: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
    let mut current = vec![0i64; weights.len()];
    (0..total)
        .map(|_| {
            for (current, weight) in current.iter_mut().zip(&weights) {
                *current += i64::from(*weight);
            }
            let mut next = 0;
            for index in 1..current.len() {
                if current[index] > current[next] {
                    next = index;
                }
            }
            current[next] -= total;
            next as u16
        })
        .collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

fn ring(servers: &[Arc<Server>], weights: &[u32]) -> Vec<(u64, u16)> {
    let mut ring = Vec::new();
    for (index, (server, weight)) in servers.iter().zip(weights).enumerate() {
        for point in 0..weight.saturating_mul(POINTS_PER_WEIGHT).min(1 << 16) {
            ring.push((hash_key((&server.name, point)), index as u16));
        }
    }
    ring.sort_unstable();
    ring
}

/// The position of a value on the hash ring.
pub(crate) fn hash_key(value: impl std::hash::Hash) -> u64 {
    let mut hasher = FxHasher::default();
    value.hash(&mut hasher);
    mix(hasher.finish())
}

/// SplitMix64's finaliser: spreads neighbouring numbers over the whole range.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use expect_test::{Expect, expect};

    use super::*;
    use crate::config;

    fn servers(weights: &[u32]) -> Vec<Arc<Server>> {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let server = |(index, weight): (usize, &u32)| {
            let name = ((b'a' + index as u8) as char).to_string();
            Arc::new(Server::new(
                &config::Server { weight: *weight as u16, ..config::Server::new(name, address) },
                Arc::default(),
            ))
        };
        weights.iter().enumerate().map(server).collect()
    }

    fn rotation(policy: Policy, weights: &[u32]) -> Rotation {
        Rotation::new(policy, Duration::ZERO, servers(weights))
    }

    fn name(selection: &Selection) -> &str {
        match selection {
            Selection::Server(server) => &server.name,
            Selection::AtCapacity => "at capacity",
            Selection::NoneAvailable => "none",
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check_order(weights: &[u32], count: usize, expected: Expect) {
        let rotation = rotation(Policy::RoundRobin, weights);
        let counter = AtomicU64::new(0);
        let selected: Vec<String> =
            (0..count).map(|_| name(&rotation.select(&counter, 0, &[], || 1)).to_owned()).collect();
        expected.assert_eq(&selected.concat());
    }

    #[test]
    fn round_robin_is_strict_and_spreads_weights() {
        check_order(&[1, 1], 6, expect!["ababab"]);
        check_order(&[7, 7, 7], 7, expect!["abcabca"]);
        check_order(&[5, 1, 1], 14, expect!["aabacaaaabacaa"]);
        check_order(&[], 1, expect!["none"]);
    }

    #[test]
    fn round_robin_is_strict_across_threads() {
        let rotation = rotation(Policy::RoundRobin, &[1, 1, 1]);
        let counter = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        drop(rotation.select(&counter, 0, &[], || 1));
                    }
                });
            }
        });
        let counts: Vec<u64> =
            rotation.servers().iter().map(|server| server.requests.load(Ordering::Relaxed)).collect();
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
    }

    #[test]
    fn a_tried_server_or_one_at_capacity_is_skipped() {
        let rotation = rotation(Policy::RoundRobin, &[1, 1]);
        let counter = AtomicU64::new(0);
        let a = Arc::clone(&rotation.servers()[0]);
        let b = Arc::clone(&rotation.servers()[1]);
        assert_eq!(name(&rotation.select(&counter, 0, &[Arc::clone(&a)], || 1)), "b");
        assert_eq!(name(&rotation.select(&counter, 0, &[Arc::clone(&a), Arc::clone(&b)], || 1)), "none");
        a.max_requests.store(1, Ordering::Relaxed);
        b.max_requests.store(1, Ordering::Relaxed);
        let first = rotation.select(&counter, 0, &[], || 1);
        let second = rotation.select(&counter, 0, &[], || 1);
        assert_ne!(name(&first), name(&second));
        assert_eq!(name(&rotation.select(&counter, 0, &[], || 1)), "at capacity");
        drop(first);
        assert_ne!(name(&rotation.select(&counter, 0, &[], || 1)), "at capacity");
    }

    #[test]
    fn servers_of_worse_standing_get_requests_that_were_tried_on_the_better_ones() {
        let worse = servers(&[1, 1, 1]).split_off(1);
        let rotation = rotation(Policy::RoundRobin, &[1]).with_fallback(Some(Rotation::new(
            Policy::RoundRobin,
            Duration::ZERO,
            worse,
        )));
        let counter = AtomicU64::new(0);
        let mut tried = Vec::new();
        let mut order = String::new();
        while let Selection::Server(server) = rotation.select(&counter, 0, &tried, || 1) {
            order += &server.name;
            tried.push(Arc::clone(&server));
        }
        assert!(matches!(order.as_str(), "abc" | "acb"), "{order}");
        rotation.servers()[0].max_requests.store(1, Ordering::Relaxed);
        let _in_flight = rotation.select(&counter, 0, &[], || 1);
        assert_eq!(
            name(&rotation.select(&counter, 0, &[], || 1)),
            "at capacity",
            "no overflow to worse ones"
        );
    }

    #[test]
    fn least_connections_selects_the_least_loaded_server_by_weight() {
        let rotation = rotation(Policy::LeastConnections, &[1, 2]);
        let counter = AtomicU64::new(0);
        let in_flight: Vec<Selection> = (0..6).map(|_| rotation.select(&counter, 0, &[], || 1)).collect();
        assert_eq!(in_flight.iter().filter(|selection| name(selection) == "b").count(), 4);
    }

    #[test]
    fn random_two_prefers_the_less_loaded_server_and_reaches_all() {
        let rotation = rotation(Policy::RandomTwo, &[1, 1, 1, 1]);
        let counter = AtomicU64::new(0);
        let in_flight: Vec<Selection> = (0..400).map(|_| rotation.select(&counter, 0, &[], || 1)).collect();
        for server in ["a", "b", "c", "d"] {
            let count = in_flight.iter().filter(|selection| name(selection) == server).count();
            assert!((90..=110).contains(&count), "{server} has {count}");
        }
    }

    #[test]
    fn a_key_stays_on_its_server_and_only_a_removed_servers_keys_move() {
        let whole = rotation(Policy::Hash, &[1, 1, 1, 1]);
        let servers = whole.servers().to_vec();
        let less = Rotation::new(Policy::Hash, Duration::ZERO, servers[..3].to_vec());
        let counter = AtomicU64::new(0);
        let mut keys = [0; 4];
        for client in 0..4000 {
            let key = hash_key(client);
            let before = name(&whole.select(&counter, key, &[], || 1)).to_owned();
            let after = name(&less.select(&counter, key, &[], || 1)).to_owned();
            keys[usize::from(before.as_bytes()[0] - b'a')] += 1;
            assert!(before == after || before == "d", "{client} moved from {before} to {after}");
        }
        assert!(keys.iter().all(|count| (700..1300).contains(count)), "{keys:?}");
    }

    #[test]
    fn slow_start_limits_a_server_under_load_and_not_at_rest() {
        let servers = servers(&[1, 1]);
        servers[1].slow_start_began.store(1000, Ordering::Relaxed);
        let rotation = Rotation::new(Policy::RoundRobin, Duration::from_secs(10), servers);
        let counter = AtomicU64::new(0);
        let at_rest: Vec<String> =
            (0..4).map(|_| name(&rotation.select(&counter, 0, &[], || 2000)).to_owned()).collect();
        assert_eq!(at_rest.concat(), "abab");
        let in_flight: Vec<Selection> =
            (0..110).map(|_| rotation.select(&counter, 0, &[], || 2000)).collect();
        let count = in_flight.iter().filter(|selection| name(selection) == "b").count();
        assert!((8..=14).contains(&count), "a tenth of the other server's, not {count}");
    }
}
