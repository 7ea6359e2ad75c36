//! Latency estimates of statements, by their text: only fast ones are pipelined.

use std::hash::{Hash as _, Hasher as _};
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHasher};

/// Maximum number of estimates; beyond it all are dropped, and learnt again with the next request.
const CAPACITY: usize = 4096;
/// The threshold of a fast statement, in microseconds.
const FAST: f32 = 2_000.0;
/// The weight of a new sample.
const WEIGHT: f32 = 0.25;

/// Exponential moving average per statement, in microseconds.
#[derive(Debug, Default)]
pub(super) struct LatencyEstimates(FxHashMap<u64, f32>);

/// A hash of the statement's text.
pub(super) fn key(sql: &str) -> u64 {
    let mut hasher = FxHasher::default();
    sql.hash(&mut hasher);
    hasher.finish()
}

impl LatencyEstimates {
    /// Whether the statement's estimate is below the threshold; false for an unknown statement.
    pub(super) fn is_fast(&self, key: u64) -> bool {
        self.0.get(&key).is_some_and(|microseconds| *microseconds < FAST)
    }

    pub(super) fn record(&mut self, key: u64, took: Duration) {
        let took = took.as_secs_f32() * 1e6;
        if self.0.len() >= CAPACITY && !self.0.contains_key(&key) {
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
    fn tracks_whether_a_statement_is_fast() {
        let mut latencies = LatencyEstimates::default();
        let key = key("select 1");
        assert!(!latencies.is_fast(key));
        latencies.record(key, Duration::from_micros(100));
        assert!(latencies.is_fast(key));
        latencies.record(key, Duration::from_secs(1));
        assert!(!latencies.is_fast(key));
        for _ in 0..40 {
            latencies.record(key, Duration::from_micros(100));
        }
        assert!(latencies.is_fast(key));
    }
}
