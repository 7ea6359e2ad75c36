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
        pool: &'a str,
        server: &'a str,
    },
    ServerDown {
        pool: &'a str,
        server: &'a str,
        reason: &'a str,
    },
    ServerEjected {
        pool: &'a str,
        server: &'a str,
        failures: u32,
        seconds: f64,
    },
    ServerSilent {
        pool: &'a str,
        server: &'a str,
        requests: usize,
    },
    NoServerPasses {
        pool: &'a str,
    },
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
    /// The body of a request on a route with request buffering cannot be stored; the client got 503.
    RequestNotBuffered {
        client: &'a str,
        reason: &'a str,
    },
    /// The file that turns maintenance on exists: requests are answered with 503.
    MaintenanceOn {
        file: &'a str,
    },
    MaintenanceOff {
        file: &'a str,
    },
    CertificateObtained {
        domain: &'a str,
        issuer: &'a str,
        expires: &'a str,
    },
    CertificateFailed {
        domain: &'a str,
        reason: &'a str,
        seconds: u64,
    },
    CertificateMissing {
        domain: &'a str,
        client: &'a str,
    },
    CertificatesDied {
        how: &'a str,
        seconds: f64,
    },
    ClockOff {
        seconds: i64,
    },
}

impl BalancerEvent<'_> {
    pub(super) fn level(&self) -> Level {
        match self {
            Self::ServerUp { .. } | Self::MaintenanceOff { .. } | Self::CertificateObtained { .. } => {
                Level::Info
            }
            Self::ServerDown { .. }
            | Self::ServerEjected { .. }
            | Self::ServerSilent { .. }
            | Self::ConnectionRefused { .. }
            | Self::MaintenanceOn { .. }
            | Self::CertificateFailed { .. }
            | Self::CertificateMissing { .. }
            | Self::ClockOff { .. } => Level::Warn,
            Self::CertificatesDied { .. }
            | Self::NoServerPasses { .. }
            | Self::WorkerDied { .. }
            | Self::RequestPanicked { .. }
            | Self::FileUnreadable { .. }
            | Self::RequestNotBuffered { .. } => Level::Error,
        }
    }
}

impl fmt::Display for BalancerEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerUp { server, .. } => write!(f, "server {server} is up"),
            Self::ServerDown { server, reason, .. } => write!(f, "server {server} is down: {reason}"),
            Self::ServerEjected { server, failures, seconds, .. } => {
                write!(f, "server {server} is ejected for {seconds:.1} s after {failures} failures in a row")
            }
            Self::WorkerDied { how } => write!(f, "worker process exited ({how}) and is restarted"),
            Self::RequestPanicked { client, reason } => {
                write!(f, "a request from {client} panicked and was answered with status 500: {reason}")
            }
            Self::FileUnreadable { client, reason } => {
                write!(f, "a static file that {client} requested cannot be read: {reason}")
            }
            Self::RequestNotBuffered { client, reason } => {
                write!(f, "the body of a request from {client} cannot be stored: {reason}")
            }
            Self::ConnectionRefused { client, code, reason } => {
                write!(f, "HTTP/2 connection from {client} closed with {code}: {reason}")
            }
            Self::MaintenanceOn { file } => {
                write!(f, "maintenance is on: requests are answered with 503 while {file} exists")
            }
            Self::MaintenanceOff { file } => write!(f, "maintenance is off: {file} is gone"),
            Self::CertificateObtained { domain, issuer, expires } => {
                write!(f, "certificate for {domain} obtained from {issuer}, expires {expires}")
            }
            Self::CertificateFailed { domain, reason, seconds } => {
                write!(
                    f,
                    "certificate for {domain} not obtained: {reason}; the next attempt is in {seconds} s"
                )
            }
            Self::CertificateMissing { domain, client } => {
                write!(
                    f,
                    "TLS handshake of {client} refused (unrecognized_name): there is no certificate for {domain} yet"
                )
            }
            Self::CertificatesDied { how, seconds } => {
                write!(f, "certificates process exited ({how}) and is restarted in {seconds:.0} s")
            }
            Self::ClockOff { seconds } => {
                let (size, direction) =
                    (seconds.unsigned_abs(), if *seconds > 0 { "ahead of" } else { "behind" });
                write!(
                    f,
                    "the clock of this machine is {} {direction} that of the certificate authority",
                    Span(size)
                )
            }
            Self::ServerSilent { server, requests, .. } => write!(
                f,
                "server {server} is silent: {requests} requests in flight without an answer; new requests go to other servers"
            ),
            Self::NoServerPasses { pool } => write!(
                f,
                "no server of {pool} passes its health checks: requests go to those that accept connections"
            ),
        }
    }
}

/// A number of seconds, in days or hours.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            seconds if seconds >= 2 * 86_400 => write!(f, "{} days", seconds / 86_400),
            seconds => write!(f, "{} hours", seconds / 3600),
        }
    }
}
