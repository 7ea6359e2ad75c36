//! The data API's Prometheus metrics. Where PostgREST has the same metric, the name is PostgREST's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tercet_observe::metrics::{Counter, Family, Gauge, Latency, Registry, encode};
use tercet_observe::traces;

use super::body::Budget;
use crate::auth::CacheCounts;
use crate::pool::Counts;

/// The classes of status codes, `1xx` to `5xx`.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// One label and its value.
type Label = [(&'static str, &'static str); 1];

/// The metrics of all threads.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    pub(super) latency: Latency,
    schema_cache_loads: Family<Label, Counter>,
    schema_cache_seconds: Gauge<f64, AtomicU64>,
    requests: [Counter; CLASSES.len()],
    tokens: Tokens,
    pools: PoolGauges,
    body_bytes: Gauge,
    lost_log_lines: Counter,
    spans: Spans,
}

#[derive(Debug, Default)]
struct Spans {
    sent: Counter,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Tokens {
    requests: Counter,
    hits: Counter,
    evictions: Counter,
}

#[derive(Debug, Default)]
struct PoolGauges {
    open: Gauge,
    available: Gauge,
    waiting: Gauge,
    maximum: Gauge,
    timeouts: Counter,
}

impl Metrics {
    pub(super) fn new(connections: usize) -> Self {
        let mut registry = Registry::default();
        let latency = Latency::default();
        registry.register("tercet_api_request_duration_seconds", "Time to answer a request", latency.clone());
        let by_class = Family::<Label, Counter>::default();
        registry.register("tercet_api_responses", "Responses by status class", by_class.clone());
        let requests = CLASSES.map(|class| by_class.get_or_create(&[("class", class)]).clone());
        let schema_cache_loads = Family::default();
        registry.register("pgrst_schema_cache_loads", "Schema cache loads", schema_cache_loads.clone());
        let schema_cache_seconds = Gauge::default();
        let help = "Duration of the last schema cache load in seconds";
        registry.register("pgrst_schema_cache_query_time_seconds", help, schema_cache_seconds.clone());
        let tokens = Tokens::default();
        registry.register("pgrst_jwt_cache_requests", "JWT cache lookups", tokens.requests.clone());
        registry.register("pgrst_jwt_cache_hits", "JWT cache hits", tokens.hits.clone());
        registry.register("pgrst_jwt_cache_evictions", "JWT cache evictions", tokens.evictions.clone());
        let pools = PoolGauges::default();
        registry.register("tercet_api_pool_open", "Open connections to PostgreSQL", pools.open.clone());
        registry.register("pgrst_db_pool_available", "Idle connections in the pool", pools.available.clone());
        registry.register(
            "pgrst_db_pool_waiting",
            "Requests waiting for a connection",
            pools.waiting.clone(),
        );
        registry.register(
            "pgrst_db_pool_max",
            "Maximum number of connections in the pool",
            pools.maximum.clone(),
        );
        registry.register(
            "pgrst_db_pool_timeouts",
            "Requests that timed out waiting for a connection",
            pools.timeouts.clone(),
        );
        let body_bytes = Gauge::default();
        registry.register("tercet_api_body_bytes", "Bytes of request bodies in memory", body_bytes.clone());
        let lost_log_lines = Counter::default();
        let help = "Log lines that were not written: the log could not keep up";
        registry.register("tercet_api_log_lines_lost", help, lost_log_lines.clone());
        let spans = Spans::default();
        let help = "Spans that the collector has accepted";
        registry.register("tercet_api_trace_spans_sent", help, spans.sent.clone());
        let help = "Spans that were not sent, or not accepted";
        registry.register("tercet_api_trace_spans_dropped", help, spans.dropped.clone());
        pools.maximum.set(connections.cast_signed() as i64);
        Self {
            registry,
            latency,
            schema_cache_loads,
            schema_cache_seconds,
            requests,
            tokens,
            pools,
            body_bytes,
            lost_log_lines,
            spans,
        }
    }

    /// Counts a response by its status class.
    pub(super) fn answered(&self, status: u16) {
        if let Some(counter) =
            usize::from(status / 100).checked_sub(1).and_then(|class| self.requests.get(class))
        {
            counter.inc();
        }
    }

    /// Counts a schema cache load that took `seconds`, or failed (`None`).
    pub(super) fn loaded(&self, seconds: Option<f64>) {
        let status = if seconds.is_some() { "SUCCESS" } else { "FAIL" };
        self.schema_cache_loads.get_or_create(&[("status", status)]).inc();
        if let Some(seconds) = seconds {
            self.schema_cache_seconds.set(seconds);
        }
    }

    /// Adds the difference between two readings of a thread's token cache counts.
    pub(super) fn add_tokens(&self, before: CacheCounts, now: CacheCounts) {
        self.tokens.requests.inc_by(now.requests - before.requests);
        self.tokens.hits.inc_by(now.hits - before.hits);
        self.tokens.evictions.inc_by(now.evictions - before.evictions);
    }

    /// The metrics in Prometheus' text format.
    pub(super) fn encode(
        &self,
        counts: &Arc<Counts>,
        bodies: &Budget,
        lost_log_lines: u64,
        spans: Option<&traces::Counts>,
    ) -> String {
        if let Some(spans) = spans {
            self.spans.sent.inner().store(spans.sent(), Ordering::Relaxed);
            self.spans.dropped.inner().store(spans.dropped(), Ordering::Relaxed);
        }
        self.lost_log_lines.inner().store(lost_log_lines, Ordering::Relaxed);
        self.body_bytes.set(bodies.used().cast_signed() as i64);
        self.pools.open.set(counts.open.load(Ordering::Relaxed));
        self.pools.available.set(counts.available.load(Ordering::Relaxed));
        self.pools.waiting.set(counts.waiting.load(Ordering::Relaxed));
        self.pools.timeouts.inner().store(counts.timeouts.load(Ordering::Relaxed), Ordering::Relaxed);
        encode(&self.registry)
    }
}
