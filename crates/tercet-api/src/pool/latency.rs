//! How long statements take, by their text: who may stand in front of others.

use std::hash::{Hash as _, Hasher as _};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHasher};

/// Statements remembered; then all are forgotten, and learnt again within a request each.
const REMEMBERED: usize = 4096;
/// What is quick, in microseconds.
const QUICK: f32 = 2_000.0;
/// How much the last time counts.
const WEIGHT: f32 = 0.25;

/// Microseconds by statement, averaged towards the last ones.
#[derive(Debug, Default)]
pub(super) struct LatencyEstimates(FxHashMap<u64, f32>);

/// Identifies a statement by its text.
pub(super) fn key(sql: &str) -> u64 {
    let mut hasher = FxHasher::default();
    sql.hash(&mut hasher);
    hasher.finish()
}

impl LatencyEstimates {
    /// Whether the statement has been quick so far; one that was never seen has not.
    pub(super) fn is_quick(&self, key: u64) -> bool {
        self.0.get(&key).is_some_and(|microseconds| *microseconds < QUICK)
    }

    pub(super) fn learn(&mut self, key: u64, took: Duration) {
        let took = took.as_secs_f32() * 1e6;
        if self.0.len() >= REMEMBERED && !self.0.contains_key(&key) {
            self.0.clear();
        }
        let pace = self.0.entry(key).or_insert(took);
        *pace += (took - *pace) * WEIGHT;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_quick_once_it_was_and_until_it_is_not() {
        let mut latencies = LatencyEstimates::default();
        let key = key("select 1");
        assert!(!latencies.is_quick(key));
        latencies.learn(key, Duration::from_micros(100));
        assert!(latencies.is_quick(key));
        latencies.learn(key, Duration::from_secs(1));
        assert!(!latencies.is_quick(key));
        for _ in 0..40 {
            latencies.learn(key, Duration::from_micros(100));
        }
        assert!(latencies.is_quick(key));
    }
}
