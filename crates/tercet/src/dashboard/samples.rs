//! The golden numbers over the last 15 minutes: requests and errors from the balancer's log, durations and requests in flight
//! from its servers' counters.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;
use tercet_observe::metrics::quantile;
use tokio::time::Instant;

use crate::running::servers::Server;

/// The history that is kept.
const HISTORY: Duration = Duration::from_secs(15 * 60);
/// The time over which a rate is measured.
const RATE: Duration = Duration::from_millis(900);
/// The time over which percentiles are measured.
const PERCENTILES: Duration = Duration::from_secs(5);

/// The golden numbers at one time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Sample {
    /// Seconds since the start of the dashboard.
    pub(super) at: f64,
    /// Requests per second.
    pub(super) rate: f64,
    /// The share of them that was answered with a status of 500 or more.
    pub(super) errors: f64,
    /// The median of the milliseconds to the first byte of the response.
    pub(super) p50: Option<f64>,
    /// Its 99th percentile.
    pub(super) p99: Option<f64>,
    /// Requests in flight.
    pub(super) in_flight: u64,
}

/// A server at one time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct ServerSample {
    name: String,
    address: String,
    state: String,
    in_flight: u64,
    requests: u64,
    failures: u64,
    rate: f64,
    p50: Option<f64>,
    p99: Option<f64>,
}

/// Counters at one time.
#[derive(Clone, Debug)]
struct Reading {
    at: Instant,
    requests: u64,
    failed: u64,
    servers: Vec<Server>,
}

/// The samples, from readings of counters.
#[derive(Debug)]
pub(super) struct Samples {
    began: Instant,
    readings: VecDeque<Reading>,
    history: VecDeque<Sample>,
    servers: Vec<ServerSample>,
}

impl Samples {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            readings: VecDeque::new(),
            history: VecDeque::new(),
            servers: Vec::new(),
        }
    }

    /// Adds a reading: the requests and failed requests in the balancer's log so far, and the counters of its servers, of which
    /// there are none if the balancer does not answer.
    pub(super) fn add(&mut self, requests: u64, failed: u64, servers: Vec<Server>) {
        let at = Instant::now();
        let now = Reading { at, requests, failed, servers };
        let span = |earlier: &Reading| (at - earlier.at).as_secs_f64();
        let since = |long: Duration| {
            let earlier = self.readings.iter().rev().find(|reading| at - reading.at >= long);
            earlier.or(self.readings.front())
        };
        let (recent, longer) = (since(RATE), since(PERCENTILES));
        let (mut rate, mut errors) = (0.0, 0.0);
        if let Some(recent) = recent {
            let new = requests.saturating_sub(recent.requests);
            rate = new as f64 / span(recent);
            errors = failed.saturating_sub(recent.failed) as f64 / new.max(1) as f64;
        }
        self.servers = now.servers.iter().map(|server| of_server(server, recent, longer, span)).collect();
        let all = longer.map(|longer| {
            let mut all: Vec<u64> = Vec::new();
            for server in &now.servers {
                let counts = new_counts(server, longer);
                all.resize(counts.len(), 0);
                all.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            }
            all
        });
        let percentile = |q| quantile(all.as_ref()?, q).map(|seconds| seconds * 1000.0);
        self.history.push_back(Sample {
            at: (at - self.began).as_secs_f64(),
            rate,
            errors: errors.min(1.0),
            p50: percentile(0.5),
            p99: percentile(0.99),
            in_flight: now.servers.iter().map(|server| server.in_flight).sum(),
        });
        let oldest = (at - self.began).as_secs_f64() - HISTORY.as_secs_f64();
        while self.history.front().is_some_and(|sample| sample.at < oldest) {
            self.history.pop_front();
        }
        self.readings.push_back(now);
        while self.readings.get(1).is_some_and(|second| at - second.at >= PERCENTILES) {
            self.readings.pop_front();
        }
    }

    /// The last sample.
    pub(super) fn last(&self) -> Option<&Sample> {
        self.history.back()
    }

    /// The servers at the time of the last sample.
    pub(super) fn servers(&self) -> &[ServerSample] {
        &self.servers
    }

    /// At most about `points` samples of the history, evenly spaced, the oldest first.
    pub(super) fn history(&self, points: usize) -> Vec<&Sample> {
        let step = self.history.len().div_ceil(points).max(1);
        let skipped = self.history.len().checked_sub(1).map_or(0, |last| last % step);
        self.history.iter().skip(skipped).step_by(step).collect()
    }
}

fn of_server(
    server: &Server,
    recent: Option<&Reading>,
    longer: Option<&Reading>,
    span: impl Fn(&Reading) -> f64,
) -> ServerSample {
    let before = |reading: &Reading| reading.servers.iter().find(|it| it.name == server.name).cloned();
    let rate = recent.and_then(|recent| {
        let new = server.requests.saturating_sub(before(recent)?.requests);
        Some(new as f64 / span(recent))
    });
    let counts = longer.map(|longer| new_counts(server, longer));
    let percentile = |q| quantile(counts.as_ref()?, q).map(|seconds| seconds * 1000.0);
    ServerSample {
        name: server.name.clone(),
        address: server.address.clone(),
        state: server.state.clone(),
        in_flight: server.in_flight,
        requests: server.requests,
        failures: server.failures,
        rate: rate.unwrap_or_default(),
        p50: percentile(0.5),
        p99: percentile(0.99),
    }
}

/// The durations that a server has counted since a reading; all of them, if the balancer was restarted since.
fn new_counts(server: &Server, earlier: &Reading) -> Vec<u64> {
    let before = earlier.servers.iter().find(|it| it.name == server.name && it.requests <= server.requests);
    let before = before.map_or(&[][..], |before| &before.first_byte);
    let before = before.iter().chain(std::iter::repeat(&0));
    server.first_byte.iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::running::servers::Answers;

    fn server(requests: u64) -> Server {
        let answers = Answers { client_errors: 0, server_errors: 0 };
        // Between 0.5 and 1 ms.
        let first_byte = vec![0, 0, 0, requests, 0];
        let (name, address, state) = ("app-1".to_owned(), "127.0.0.1:1".to_owned(), "up".to_owned());
        Server { name, address, state, in_flight: 1, requests, failures: 0, answers, first_byte }
    }

    #[tokio::test(start_paused = true)]
    async fn rates_and_percentiles_are_of_the_last_seconds() {
        let mut samples = Samples::new();
        for tick in 0..4000_u64 {
            let requests = if tick < 2000 { tick * 5 } else { 10_000 };
            samples.add(requests, requests / 10, vec![server(requests)]);
            tokio::time::advance(Duration::from_millis(500)).await;
            if tick == 1500 {
                let last = samples.last().unwrap();
                assert_eq!((last.rate, last.errors, last.in_flight), (10.0, 0.1, 1));
                assert_eq!((last.p50, samples.servers()[0].rate), (Some(0.75), 10.0));
            }
        }
        let last = samples.last().unwrap();
        assert_eq!((last.rate, last.errors, last.p50), (0.0, 0.0, None));
        assert!(samples.history.len() <= 1802, "{}", samples.history.len());
        let history = samples.history(300);
        assert!(history.len() <= 301 && history.last() == Some(&last), "{}", history.len());
        assert!(samples.readings.len() <= 12);
    }

    #[tokio::test(start_paused = true)]
    async fn counters_of_a_restarted_balancer_start_anew() {
        let mut samples = Samples::new();
        samples.add(100, 0, vec![server(100)]);
        tokio::time::advance(Duration::from_secs(1)).await;
        samples.add(100, 0, Vec::new());
        tokio::time::advance(Duration::from_secs(1)).await;
        samples.add(105, 0, vec![server(5)]);
        assert_eq!((samples.last().unwrap().rate, samples.last().unwrap().p50), (5.0, Some(0.75)));
    }
}
