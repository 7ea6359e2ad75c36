//! Which server is next: the servers that may get requests right now, the best first, and the order the policy gives
//! those that are equally good.
//!
//! A rotation is immutable; it is made anew when a server comes, goes, is drained or changes weight. The
//! only thing threads share while picking is one counter, so the n-th request of the whole process gets the
//! n-th turn, whichever thread and connection carried it.

use std::hash::Hasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustc_hash::FxHasher;

use crate::config::Policy;
use crate::server::Server;

/// Places on the ring of consistent hashing per unit of weight: enough to keep shares within a few percent.
const POINTS_PER_WEIGHT: u32 = 128;
/// Turns in the sequence of weighted round robin at most; larger weights are scaled down.
const LONGEST_SEQUENCE: u32 = 4096;

/// The servers in rotation, in the order of their turns.
#[derive(Debug)]
pub(crate) struct Rotation {
    policy: Policy,
    slow_start: Duration,
    /// Servers of equal standing.
    servers: Vec<Arc<Server>>,
    /// Indices into `servers`: each as often as its weight says, spread evenly.
    sequence: Vec<u16>,
    /// Points of the hash ring and the server each belongs to, sorted.
    ring: Vec<(u64, u16)>,
    /// Those of worse standing, for requests that none of these can be given.
    worse: Option<Box<Rotation>>,
}

/// Counts one request against a server's connection limit; dropping it counts the request out.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Server>);

/// The outcome of choosing a server for a request.
#[derive(Debug)]
pub(crate) enum Selection {
    /// This one.
    Server(InFlight),
    /// There are servers, but each has as many requests as it may have.
    AtCapacity,
    /// There is none, or none that was not tried yet.
    NoneAvailable,
}

impl Rotation {
    pub(crate) fn new(policy: Policy, slow_start: Duration, servers: Vec<Arc<Server>>) -> Self {
        let weights: Vec<u32> =
            servers.iter().map(|server| server.weight.load(Ordering::Relaxed).max(1)).collect();
        let ring = if policy == Policy::Hash { ring(&servers, &weights) } else { Vec::new() };
        Self { policy, slow_start, sequence: smooth_sequence(&weights), ring, servers, worse: None }
    }

    /// Puts this rotation before one of servers that are worse.
    pub(crate) fn before(self, worse: Option<Self>) -> Self {
        Self { worse: worse.map(Box::new), ..self }
    }

    /// The servers in it, without the worse ones.
    #[cfg(test)]
    pub(crate) fn servers(&self) -> &[Arc<Server>] {
        &self.servers
    }

    /// Picks the next server, leaving out those that were `tried`: among the best, and when all of them
    /// were tried among the next best. `turns` is the process's counter, `key` what the hash policy goes by, `now`
    /// reads the milliseconds of the process's clock: only a server that came back lately makes it necessary.
    pub(crate) fn pick(
        &self,
        turns: &AtomicU64,
        key: u64,
        tried: &[Arc<Server>],
        now: impl Fn() -> u64,
    ) -> Selection {
        let turn = turns.fetch_add(1, Ordering::Relaxed);
        let mut rotation = self;
        loop {
            match (rotation.pick_here(turn, key, tried, &now), &rotation.worse) {
                (Selection::NoneAvailable, Some(worse)) => rotation = worse,
                (picked, _) => return picked,
            }
        }
    }

    fn pick_here(&self, turn: u64, key: u64, tried: &[Arc<Server>], now: impl Fn() -> u64) -> Selection {
        if self.servers.is_empty() {
            return Selection::NoneAvailable;
        }
        // A server that is still warming up is passed over while it has its share; if the others are
        // full it is asked all the same.
        for may_be_cold in [false, true] {
            let found = self.candidates(turn, key, |index| {
                let server = &self.servers[index];
                !tried.iter().any(|other| Arc::ptr_eq(other, server))
                    && (may_be_cold || !self.is_cold(server, &now))
                    && server.enter()
            });
            if let Some(index) = found {
                return Selection::Server(InFlight(Arc::clone(&self.servers[index])));
            }
        }
        let untried = |server: &Arc<Server>| !tried.iter().any(|other| Arc::ptr_eq(other, server));
        if self.servers.iter().any(untried) { Selection::AtCapacity } else { Selection::NoneAvailable }
    }

    /// Offers servers in the policy's order until one is taken.
    fn candidates(&self, turn: u64, key: u64, mut take: impl FnMut(usize) -> bool) -> Option<usize> {
        let count = self.servers.len();
        match self.policy {
            Policy::RoundRobin => {
                let start = (turn % self.sequence.len() as u64) as usize;
                let order = self.sequence[start..].iter().chain(&self.sequence[..start]);
                order.map(|index| usize::from(*index)).find(|index| take(*index))
            }
            Policy::LeastConnections => {
                let start = (turn % count as u64) as usize;
                let mut order: Vec<usize> = (start..count).chain(0..start).collect();
                order.sort_by(|a, b| self.load(*a).total_cmp(&self.load(*b)));
                order.into_iter().find(|index| take(*index))
            }
            Policy::RandomTwo => {
                let random = mix(turn);
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

    /// Whether a server that came back lately has as many requests as its warmth allows: a part of what
    /// the others have on average that grows to the whole over the time of the slow start.
    fn is_cold(&self, server: &Server, now: impl Fn() -> u64) -> bool {
        let back_since = server.back_since.load(Ordering::Relaxed);
        if back_since == 0 || self.slow_start.is_zero() {
            return false;
        }
        let warmth = now().saturating_sub(back_since) as f64 / self.slow_start.as_millis() as f64;
        if warmth >= 1.0 {
            server.back_since.store(0, Ordering::Relaxed);
            return false;
        }
        let all: usize = self.servers.iter().map(|server| server.in_flight()).sum();
        let others = all - server.in_flight().min(all);
        let share = others as f64 / (self.servers.len().max(2) - 1) as f64;
        server.in_flight() as f64 > share * warmth
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
        self.0.leave();
    }
}

/// The order of smooth weighted round robin (nginx's): nobody gets two turns in a row that others wait for.
fn smooth_sequence(weights: &[u32]) -> Vec<u16> {
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let mut weights: Vec<u32> = weights.iter().map(|weight| weight / divisor).collect();
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    if total > u64::from(LONGEST_SEQUENCE) {
        for weight in &mut weights {
            *weight = (u64::from(*weight) * u64::from(LONGEST_SEQUENCE) / total).max(1) as u32;
        }
    }
    let total: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
    let mut owed = vec![0i64; weights.len()];
    (0..total)
        .map(|_| {
            for (owed, weight) in owed.iter_mut().zip(&weights) {
                *owed += i64::from(*weight);
            }
            let mut next = 0;
            for index in 1..owed.len() {
                if owed[index] > owed[next] {
                    next = index;
                }
            }
            owed[next] -= total;
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

/// The place on the ring of anything that can be hashed.
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
    use expect_test::{Expect, expect};

    use super::*;
    use crate::config;

    fn servers(weights: &[u32]) -> Vec<Arc<Server>> {
        let address = ([127, 0, 0, 1], 1).into();
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

    fn name(pick: &Selection) -> &str {
        match pick {
            Selection::Server(server) => &server.name,
            Selection::AtCapacity => "full",
            Selection::NoneAvailable => "nobody",
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check_turns(weights: &[u32], count: usize, expected: Expect) {
        let rotation = rotation(Policy::RoundRobin, weights);
        let turns = AtomicU64::new(0);
        let picked: Vec<String> =
            (0..count).map(|_| name(&rotation.pick(&turns, 0, &[], || 1)).to_owned()).collect();
        expected.assert_eq(&picked.concat());
    }

    #[test]
    fn turns_are_strict_and_weights_are_spread() {
        check_turns(&[1, 1], 6, expect!["ababab"]);
        check_turns(&[7, 7, 7], 7, expect!["abcabca"]);
        check_turns(&[5, 1, 1], 14, expect!["aabacaaaabacaa"]);
        check_turns(&[], 1, expect!["nobody"]);
    }

    #[test]
    fn turns_stay_strict_across_threads() {
        let rotation = rotation(Policy::RoundRobin, &[1, 1, 1]);
        let turns = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        drop(rotation.pick(&turns, 0, &[], || 1));
                    }
                });
            }
        });
        let counts: Vec<u64> =
            rotation.servers().iter().map(|server| server.requests.load(Ordering::Relaxed)).collect();
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
    }

    #[test]
    fn a_tried_or_full_server_is_passed_over() {
        let rotation = rotation(Policy::RoundRobin, &[1, 1]);
        let turns = AtomicU64::new(0);
        let a = Arc::clone(&rotation.servers()[0]);
        let b = Arc::clone(&rotation.servers()[1]);
        assert_eq!(name(&rotation.pick(&turns, 0, &[Arc::clone(&a)], || 1)), "b");
        assert_eq!(name(&rotation.pick(&turns, 0, &[Arc::clone(&a), Arc::clone(&b)], || 1)), "nobody");
        a.max_requests.store(1, Ordering::Relaxed);
        b.max_requests.store(1, Ordering::Relaxed);
        let first = rotation.pick(&turns, 0, &[], || 1);
        let second = rotation.pick(&turns, 0, &[], || 1);
        assert_ne!(name(&first), name(&second));
        assert_eq!(name(&rotation.pick(&turns, 0, &[], || 1)), "full");
        drop(first);
        assert_ne!(name(&rotation.pick(&turns, 0, &[], || 1)), "full");
    }

    #[test]
    fn those_of_worse_standing_are_for_requests_that_the_better_ones_were_tried_for() {
        let worse = servers(&[1, 1, 1]).split_off(1);
        let rotation = rotation(Policy::RoundRobin, &[1]).before(Some(Rotation::new(
            Policy::RoundRobin,
            Duration::ZERO,
            worse,
        )));
        let turns = AtomicU64::new(0);
        let mut tried = Vec::new();
        let mut order = String::new();
        while let Selection::Server(turn) = rotation.pick(&turns, 0, &tried, || 1) {
            order += &turn.name;
            tried.push(Arc::clone(&turn));
        }
        assert!(matches!(order.as_str(), "abc" | "acb"), "{order}");
        rotation.servers()[0].max_requests.store(1, Ordering::Relaxed);
        let _held = rotation.pick(&turns, 0, &[], || 1);
        assert_eq!(name(&rotation.pick(&turns, 0, &[], || 1)), "full", "worse ones are no overflow");
    }

    #[test]
    fn least_connections_goes_where_the_least_waits_for_its_weight() {
        let rotation = rotation(Policy::LeastConnections, &[1, 2]);
        let turns = AtomicU64::new(0);
        let held: Vec<Selection> = (0..6).map(|_| rotation.pick(&turns, 0, &[], || 1)).collect();
        assert_eq!(held.iter().filter(|pick| name(pick) == "b").count(), 4);
    }

    #[test]
    fn random_two_prefers_the_less_busy_and_reaches_everybody() {
        let rotation = rotation(Policy::RandomTwo, &[1, 1, 1, 1]);
        let turns = AtomicU64::new(0);
        let held: Vec<Selection> = (0..400).map(|_| rotation.pick(&turns, 0, &[], || 1)).collect();
        for server in ["a", "b", "c", "d"] {
            let count = held.iter().filter(|pick| name(pick) == server).count();
            assert!((90..=110).contains(&count), "{server} has {count}");
        }
    }

    #[test]
    fn a_key_stays_with_its_server_and_only_the_lost_ones_keys_move() {
        let whole = rotation(Policy::Hash, &[1, 1, 1, 1]);
        let servers = whole.servers().to_vec();
        let less = Rotation::new(Policy::Hash, Duration::ZERO, servers[..3].to_vec());
        let turns = AtomicU64::new(0);
        let mut shares = [0; 4];
        for client in 0..4000 {
            let key = hash_key(client);
            let before = name(&whole.pick(&turns, key, &[], || 1)).to_owned();
            let after = name(&less.pick(&turns, key, &[], || 1)).to_owned();
            shares[usize::from(before.as_bytes()[0] - b'a')] += 1;
            assert!(before == after || before == "d", "{client} moved from {before} to {after}");
        }
        assert!(shares.iter().all(|share| (700..1300).contains(share)), "{shares:?}");
    }

    #[test]
    fn a_server_that_came_back_is_warmed_up_under_load_and_takes_turns_at_rest() {
        let servers = servers(&[1, 1]);
        servers[1].back_since.store(1000, Ordering::Relaxed);
        let rotation = Rotation::new(Policy::RoundRobin, Duration::from_secs(10), servers);
        let turns = AtomicU64::new(0);
        let at_rest: Vec<String> =
            (0..4).map(|_| name(&rotation.pick(&turns, 0, &[], || 2000)).to_owned()).collect();
        assert_eq!(at_rest.concat(), "abab");
        let held: Vec<Selection> = (0..110).map(|_| rotation.pick(&turns, 0, &[], || 2000)).collect();
        let cold = held.iter().filter(|pick| name(pick) == "b").count();
        assert!((8..=14).contains(&cold), "a tenth of its warm share, not {cold}");
    }
}
