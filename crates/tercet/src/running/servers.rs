//! The balancer's servers, asked at its metrics endpoint.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::loopback;

/// A server's state and counters, since the balancer started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Server {
    /// Its name.
    pub(crate) name: String,
    /// Its address.
    pub(crate) address: String,
    /// `up`, `silent`, `ejected`, `down`, `draining`.
    pub(crate) state: String,
    /// Requests in flight.
    pub(crate) in_flight: u64,
    /// Requests sent to it.
    pub(crate) requests: u64,
    /// Those that failed on it.
    pub(crate) failures: u64,
    /// Its responses by class of status.
    pub(crate) answers: Answers,
    /// The durations to the first byte of the response, as
    /// [`Latency::counts`](tercet_observe::metrics::Latency::counts).
    pub(crate) first_byte: Vec<u64>,
}

/// Responses by class of status.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Answers {
    #[serde(rename = "4xx")]
    pub(crate) client_errors: u64,
    #[serde(rename = "5xx")]
    pub(crate) server_errors: u64,
}

/// All servers of the balancer with this metrics endpoint.
///
/// # Errors
/// It does not answer.
pub(crate) async fn servers(metrics: SocketAddr) -> anyhow::Result<Vec<Server>> {
    parse(&loopback::get(metrics, "/servers").await?)
}

/// The servers in a balancer's answer.
///
/// # Errors
/// It is none.
pub(crate) fn parse(body: &str) -> anyhow::Result<Vec<Server>> {
    #[derive(Deserialize)]
    struct Response {
        servers: Vec<Server>,
    }
    let response: Response = serde_json::from_str(body).context("the balancer's servers")?;
    Ok(response.servers)
}
