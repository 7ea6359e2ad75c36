//! What the balancer says.

use std::fmt;

use serde::Serialize;

use super::Level;

/// Something that happened to the balancer.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant's Display says what it means")]
pub enum BalancerEvent<'a> {
    ServerUp { server: &'a str },
    ServerDown { server: &'a str, reason: &'a str },
    ServerEjected { server: &'a str, failures: u32, seconds: f64 },
    ServerSilent { server: &'a str, requests: usize },
    NoServerPasses,
    WorkerDied { how: &'a str },
    RequestPanicked { client: &'a str, reason: &'a str },
    ConnectionRefused { client: &'a str, code: &'a str, reason: &'a str },
}

impl BalancerEvent<'_> {
    pub(super) fn level(&self) -> Level {
        match self {
            Self::ServerUp { .. } => Level::Info,
            Self::ServerDown { .. }
            | Self::ServerEjected { .. }
            | Self::ServerSilent { .. }
            | Self::ConnectionRefused { .. } => Level::Warn,
            Self::NoServerPasses | Self::WorkerDied { .. } | Self::RequestPanicked { .. } => Level::Error,
        }
    }
}

impl fmt::Display for BalancerEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerUp { server } => write!(f, "server {server} is up"),
            Self::ServerDown { server, reason } => write!(f, "server {server} is down: {reason}"),
            Self::ServerEjected { server, failures, seconds } => {
                write!(f, "server {server} is ejected for {seconds:.1} s after {failures} failures in a row")
            }
            Self::WorkerDied { how } => write!(f, "the worker process died ({how}), a new one is started"),
            Self::RequestPanicked { client, reason } => {
                write!(f, "a request of {client} panicked, and was answered with 500: {reason}")
            }
            Self::ConnectionRefused { client, code, reason } => {
                write!(f, "the HTTP/2 connection of {client} is ended with {code}: {reason}")
            }
            Self::ServerSilent { server, requests } => write!(
                f,
                "server {server} is silent: {requests} requests wait for it, new ones go to the others"
            ),
            Self::NoServerPasses => {
                write!(f, "no server passes its checks: requests go to those that accept connections")
            }
        }
    }
}
