//! Counters, gauges and histograms for Prometheus.
//!
//! The registry and the text format are the `prometheus-client` library's; the histogram is ours, because
//! the library's takes a lock for every observation.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
pub use prometheus_client::registry::Registry;

/// Upper bounds of the latency buckets, in seconds, from 100 µs to 10 s.
pub const BOUNDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A latency histogram of atomics: observing takes two additions and no lock.
#[derive(Clone, Debug, Default)]
pub struct Latency(Arc<Buckets>);

#[derive(Debug, Default)]
struct Buckets {
    counts: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
}

impl Latency {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.partition_point(|bound| *bound < seconds);
        self.0.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.0.microseconds.fetch_add(duration.as_micros() as u64, Ordering::Relaxed);
    }

    /// How many durations each bucket has: one up to each of [`BOUNDS`], and the last for all others.
    pub fn counts(&self) -> Vec<u64> {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Counts all that another histogram has counted.
    pub fn include(&self, other: &Self) {
        for (count, more) in self.0.counts.iter().zip(&other.0.counts) {
            count.fetch_add(more.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let more = other.0.microseconds.load(Ordering::Relaxed);
        self.0.microseconds.fetch_add(more, Ordering::Relaxed);
    }
}

/// The quantile `q` (0 to 1) of durations of which each bucket has so many, in seconds, by linear interpolation in its bucket;
/// `None` without any. Durations above the last bound count as that.
pub fn quantile(counts: &[u64], q: f64) -> Option<f64> {
    let all: u64 = counts.iter().sum();
    let rank = q * all as f64;
    let mut below = 0;
    for (index, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let upper = *BOUNDS.get(index).or(BOUNDS.last())?;
        if (below + count) as f64 >= rank {
            let lower = index.checked_sub(1).map_or(0.0, |index| BOUNDS[index.min(BOUNDS.len() - 1)]);
            return Some(lower + (upper - lower) * ((rank - below as f64) / *count as f64).clamp(0.0, 1.0));
        }
        below += count;
    }
    None
}

impl EncodeMetric for Latency {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.counts();
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        let sum = self.0.microseconds.load(Ordering::Relaxed) as f64 / 1e6;
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl TypedMetric for Latency {
    const TYPE: MetricType = MetricType::Histogram;
}

/// The exposition of all that is registered, in OpenMetrics 1.0.
pub fn encode(registry: &Registry) -> String {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).expect("writing to a String cannot fail");
    text
}

/// The content type of [`encode`]'s text.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of [`plain`]'s text.
pub const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text of [`encode`] in the older text format of Prometheus, in which a counter's name ends in `_total` everywhere
/// (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
pub fn plain(openmetrics: &str) -> String {
    let counters: HashSet<&str> = openmetrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(openmetrics.len());
    for line in openmetrics.lines() {
        let comment = line.strip_prefix("# ").and_then(|comment| comment.split_once(' '));
        match comment {
            Some((keyword @ ("HELP" | "TYPE"), rest)) => {
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let suffix = if counters.contains(name) { "_total" } else { "" };
                text.extend(["# ", keyword, " ", name, suffix, " ", rest, "\n"]);
            }
            Some(_) => {}
            None if line == "# EOF" => {}
            None => text.extend([line, "\n"]),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Unit;

    use super::*;

    #[test]
    fn quantiles_are_interpolated() {
        let latency = Latency::default();
        assert_eq!(quantile(&latency.counts(), 0.5), None);
        (0..100).for_each(|_| latency.observe(Duration::from_micros(700)));
        assert_eq!(quantile(&latency.counts(), 0.5), Some(0.000_75));
        latency.observe(Duration::from_secs(60));
        assert_eq!(quantile(&latency.counts(), 1.0), Some(10.0));
    }

    #[test]
    fn the_older_format_names_a_counter_as_its_samples() {
        let mut registry = Registry::default();
        let requests: Counter = Counter::default();
        requests.inc();
        registry.register("requests", "Requests", requests);
        registry.register_with_unit("wait", "Waiting", Unit::Seconds, Gauge::<i64>::default());
        let text = encode(&registry);
        assert_eq!(
            plain(&text),
            "# HELP requests_total Requests.\n# TYPE requests_total counter\nrequests_total 1\n\
             # HELP wait_seconds Waiting.\n# TYPE wait_seconds gauge\nwait_seconds 0\n"
        );
    }

    #[test]
    fn a_latency_is_a_cumulative_histogram_in_seconds() {
        let mut registry = Registry::default();
        let latency = Latency::default();
        registry.register("wait_seconds", "Waiting", latency.clone());
        latency.observe(Duration::from_micros(100));
        latency.observe(Duration::from_millis(3));
        latency.observe(Duration::from_secs(60));
        let text = encode(&registry);
        for line in [
            "wait_seconds_count 3",
            "wait_seconds_sum 60.0031",
            "wait_seconds_bucket{le=\"0.0001\"} 1",
            "wait_seconds_bucket{le=\"0.005\"} 2",
            "wait_seconds_bucket{le=\"10.0\"} 2",
            "wait_seconds_bucket{le=\"+Inf\"} 3",
        ] {
            assert!(text.contains(line), "{line} not in\n{text}");
        }
    }
}
