//! The balancer's counters, and their Prometheus text format.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tercet_observe::metrics::{self, Counter, Family, Gauge, Latency, Registry};
use tercet_observe::traces::Counts;

use crate::servers::Servers;
use crate::tls::Obtained;
use crate::x509::Leaf;

/// Counters of the whole process; those of a server are in [`crate::server::Server`].
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Client connections accepted.
    pub(crate) accepted: AtomicU64,
    /// Malformed requests refused.
    pub(crate) refused: AtomicU64,
    /// Requests retried on another server.
    pub(crate) retries: AtomicU64,
    /// Connections and requests refused by a limit.
    pub(crate) limited: AtomicU64,
    /// Those of each worker thread, so that no two threads count in the same cache line.
    requests: Box<[Requests]>,
}

/// The requests of one worker thread.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Requests {
    responses: [AtomicU64; CLASSES.len()],
    duration: Latency,
}

impl Metrics {
    /// The counters of a process with this number of worker threads.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            accepted: AtomicU64::default(),
            refused: AtomicU64::default(),
            retries: AtomicU64::default(),
            limited: AtomicU64::default(),
            requests: (0..workers.max(1)).map(|_| Requests::default()).collect(),
        }
    }

    /// Counts a request of a worker thread and the status it was answered with. The duration of a tunnel is not that of a request.
    pub(crate) fn answered(&self, worker: usize, status: u16, duration: Duration) {
        let Some(requests) = self.requests.get(worker) else { return };
        let class = usize::from(status / 100).checked_sub(1);
        if let Some(count) = class.and_then(|class| requests.responses.get(class)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if status != 101 {
            requests.duration.observe(duration);
        }
    }
}

type Labels = Vec<(&'static str, String)>;

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What is read at a scrape, besides the counters.
pub(crate) struct Readings<'a> {
    /// Client connections that are open.
    pub(crate) connections: usize,
    /// Log lines that were not written.
    pub(crate) lost_log_lines: u64,
    pub(crate) maintenance: bool,
    /// The spans of traces, if requests are traced.
    pub(crate) spans: Option<&'a Counts>,
    pub(crate) pools: &'a [Arc<Servers>],
    pub(crate) certificates: Vec<Leaf>,
    pub(crate) obtained: Vec<Obtained>,
}

/// The text exposition of all metrics. A scrape reads the atomics into a registry, so that counting needs none.
pub(crate) fn encode(own: &Metrics, now: &Readings<'_>) -> String {
    let mut registry = Registry::with_prefix("tercet_balancer");
    let connections = Gauge::<i64>::default();
    connections.set(now.connections.try_into().unwrap_or(i64::MAX));
    registry.register("connections", "Client connections that are open", connections);
    for (name, help, count) in [
        ("connections_accepted", "Client connections accepted", &own.accepted),
        ("requests_refused", "Malformed requests refused", &own.refused),
        ("retries", "Requests retried on another server", &own.retries),
        ("limited", "Connections and requests refused by a limit", &own.limited),
    ] {
        registry.register(name, help, counter(count));
    }
    let maintenance = Gauge::<i64>::default();
    maintenance.set(now.maintenance.into());
    registry.register("maintenance", "Whether maintenance is on: requests get 503", maintenance);
    let lost = counter(&now.lost_log_lines.into());
    registry.register("log_lines_lost", "Log lines that were not written: the log could not keep up", lost);
    if let Some(spans) = now.spans {
        for (name, help, count) in [
            ("trace_spans_sent", "Spans that the collector has accepted", spans.sent()),
            ("trace_spans_dropped", "Spans that were not sent, or not accepted", spans.dropped()),
        ] {
            registry.register(name, help, counter(&count.into()));
        }
    }
    add_certificates(&mut registry, &now.certificates);
    add_domains(&mut registry, &now.obtained);
    add_responses(&mut registry, own);
    add_servers(&mut registry, now.pools);
    metrics::encode(&registry)
}

fn add_certificates(registry: &mut Registry, certificates: &[Leaf]) {
    let expiry = Family::<Labels, Gauge<i64>>::default();
    for certificate in certificates {
        for name in &certificate.names {
            // With two certificates for one name, clients get the first.
            let label = vec![("name", name.clone())];
            let gauge = expiry.get_or_create(&label);
            if gauge.get() == 0 {
                gauge.set(certificate.not_after);
            }
        }
    }
    if !certificates.is_empty() {
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "End of the validity of the certificate for the name, in seconds since 1970",
            expiry,
        );
    }
}

/// The certificates that the certificates process obtains and renews: a domain without one has the value 0.
fn add_domains(registry: &mut Registry, domains: &[Obtained]) {
    if domains.is_empty() {
        return;
    }
    let (begin, end) = <(Family<Labels, Gauge<i64>>, Family<Labels, Gauge<i64>>)>::default();
    for Obtained { domain, leaf } in domains {
        let label = vec![("domain", domain.clone())];
        let validity = leaf.as_ref().map_or((0, 0), |leaf| (leaf.not_before, leaf.not_after));
        begin.get_or_create(&label).set(validity.0);
        end.get_or_create(&label).set(validity.1);
    }
    registry.register(
        "domain_certificate_not_before_timestamp_seconds",
        "Start of the validity of the certificate obtained for the domain, in seconds since 1970; 0 if there is none",
        begin,
    );
    registry.register(
        "domain_certificate_not_after_timestamp_seconds",
        "End of the validity of the certificate obtained for the domain, in seconds since 1970; 0 if there is none",
        end,
    );
}

fn add_responses(registry: &mut Registry, own: &Metrics) {
    let responses = Family::<Labels, Counter>::default();
    let duration = Latency::default();
    for requests in &own.requests {
        duration.include(&requests.duration);
        for (class, count) in CLASSES.into_iter().zip(&requests.responses) {
            let label = vec![("class", class.to_owned())];
            responses.get_or_create(&label).inc_by(count.load(Ordering::Relaxed));
        }
    }
    registry.register(
        "responses",
        "Responses to clients by status class, the balancer's own among them",
        responses,
    );
    registry.register("request_duration_seconds", "Time from a request to the end of its response", duration);
}

fn add_servers(registry: &mut Registry, pools: &[Arc<Servers>]) {
    let requests = Family::<Labels, Counter>::default();
    let failures = Family::<Labels, Counter>::default();
    let answers = Family::<Labels, Counter>::default();
    let in_flight = Family::<Labels, Gauge>::default();
    let up = Family::<Labels, Gauge>::default();
    let latency = Family::<Labels, Latency>::default();
    let servers = pools.iter().flat_map(|pool| pool.all().into_iter().map(move |server| (pool, server)));
    for (pool, server) in servers {
        let label = vec![("pool", pool.pool.to_string()), ("server", server.name.to_string())];
        requests.get_or_create(&label).inc_by(server.requests.load(Ordering::Relaxed));
        failures.get_or_create(&label).inc_by(server.failed.load(Ordering::Relaxed));
        in_flight.get_or_create(&label).set(server.in_flight().try_into().unwrap_or(i64::MAX));
        up.get_or_create(&label).set(i64::from(server.is_available()));
        latency.get_or_create(&label).include(&server.latency);
        for (class, count) in CLASSES.into_iter().zip(&server.responses) {
            let label = [&label[..], &[("class", class.to_owned())]].concat();
            answers.get_or_create(&label).inc_by(count.load(Ordering::Relaxed));
        }
    }
    registry.register("server_requests", "Requests sent to the server, including retries", requests);
    registry.register("server_failures", "Requests that failed on the server", failures);
    registry.register("server_responses", "Responses of the server by status class", answers);
    registry.register("server_requests_in_flight", "Requests in flight on the server", in_flight);
    registry.register("server_up", "Whether the server is in rotation", up);
    registry.register("server_first_byte_seconds", "Time to the first byte of the response", latency);
}

fn counter(count: &AtomicU64) -> Counter {
    let counter = Counter::default();
    counter.inc_by(count.load(Ordering::Relaxed));
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_without_a_certificate_has_a_metric() {
        let leaf = Leaf {
            names: vec!["shop.example".to_owned()],
            issuer: "R1".to_owned(),
            not_before: 100,
            not_after: 200,
        };
        let obtained = |domain: &str, leaf| Obtained { domain: domain.to_owned(), leaf };
        let mut registry = Registry::with_prefix("tercet_balancer");
        let domains = [obtained("shop.example", Some(leaf)), obtained("new.example", None)];
        add_domains(&mut registry, &domains);
        let text = metrics::encode(&registry);
        for (validity, domain, value) in [
            ("not_before", "shop.example", 100),
            ("not_after", "shop.example", 200),
            ("not_before", "new.example", 0),
            ("not_after", "new.example", 0),
        ] {
            let name = format!("tercet_balancer_domain_certificate_{validity}_timestamp_seconds");
            let line = format!("{name}{{domain=\"{domain}\"}} {value}\n");
            assert!(text.contains(&line), "{line} not in\n{text}");
        }
    }
}
