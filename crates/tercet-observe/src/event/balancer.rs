//! Events of the balancer.

use std::fmt;

use serde::Serialize;

use super::Level;

/// An event of the balancer.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant's Display says what it means")]
pub enum BalancerEvent<'a> {
    ServerUp {
        server: &'a str,
    },
    ServerDown {
        server: &'a str,
        reason: &'a str,
    },
    ServerEjected {
        server: &'a str,
        failures: u32,
        seconds: f64,
    },
    ServerSilent {
        server: &'a str,
        requests: usize,
    },
    NoServerPasses,
    WorkerDied {
        how: &'a str,
    },
    RequestPanicked {
        client: &'a str,
        reason: &'a str,
    },
    ConnectionRefused {
        client: &'a str,
        code: &'a str,
        reason: &'a str,
    },
    /// A static file cannot be read; a client got 500, or only a part of the file.
    FileUnreadable {
        client: &'a str,
        reason: &'a str,
    },
}

impl BalancerEvent<'_> {
    pub(super) fn level(&self) -> Level {
        match self {
            Self::ServerUp { .. } => Level::Info,
            Self::ServerDown { .. }
            | Self::ServerEjected { .. }
            | Self::ServerSilent { .. }
            | Self::ConnectionRefused { .. } => Level::Warn,
            Self::NoServerPasses
            | Self::WorkerDied { .. }
            | Self::RequestPanicked { .. }
            | Self::FileUnreadable { .. } => Level::Error,
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
            Self::WorkerDied { how } => write!(f, "worker process exited ({how}) and is restarted"),
            Self::RequestPanicked { client, reason } => {
                write!(f, "a request from {client} panicked and was answered with status 500: {reason}")
            }
            Self::FileUnreadable { client, reason } => {
                write!(f, "a static file that {client} requested cannot be read: {reason}")
            }
            Self::ConnectionRefused { client, code, reason } => {
                write!(f, "HTTP/2 connection from {client} closed with {code}: {reason}")
            }
            Self::ServerSilent { server, requests } => write!(
                f,
                "server {server} is silent: {requests} requests in flight without an answer; new requests go to other servers"
            ),
            Self::NoServerPasses => {
                write!(f, "no server passes its health checks: requests go to those that accept connections")
            }
        }
    }
}
