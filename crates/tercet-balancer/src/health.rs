//! Active health checks. They run on the housekeeping thread, so that busy workers cannot delay them.
//!
//! Each check opens a new connection, and sends one request on it if a path is configured or the server's state is in
//! doubt. A result only affects new requests: those in flight stay on their server. [`crate::servers`] decides what
//! a result means for the rotation.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::{self, Health};
use crate::http1::response::{self, RequestInfo};
use crate::http1::{HeadLimits, Method};
use crate::server::{Server, Standing};
use crate::servers::Servers;
use crate::shared::Shared;
use crate::socket;
use crate::upstream::Upstream;

/// The longest response head a check reads, in bytes.
const HEAD_BYTES: usize = 16 * 1024;

/// The request line of a check without a path: any response shows that the server works (RFC 9110 section 9.3.7).
const PING: &str = "OPTIONS *";

/// What a check does.
#[derive(Clone, Copy, Debug)]
enum Probe<'a> {
    /// Connects.
    Connect,
    /// Connects, sends [`PING`] and waits for the first byte of a response.
    Ping,
    /// Connects, requests this path and evaluates the status of the response.
    Path(&'a str),
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
enum HealthFailure {
    #[error("connection refused")]
    Refused,
    #[error("the health check timed out after {0:?}")]
    Timeout(Duration),
    #[error("the health check returned status {0}")]
    Status(u16),
    #[error("the health check failed: {0}")]
    Failed(String),
    #[error("the balancer has no sockets left")]
    OutOfSockets,
}

/// Checks every server, one task each. Never returns; the caller drops it when the configuration changes.
pub(crate) async fn check_all(shared: Arc<Shared>) {
    let config = shared.config.load_full();
    let mut checks = tokio::task::JoinSet::new();
    for (options, pool) in config.pools().into_iter().zip(&config.backend_pools) {
        let rules = Rc::new(options.health);
        for server in pool.servers.all() {
            let (pool, rules) = (Arc::clone(&pool.servers), Rc::clone(&rules));
            let is_its = |it: &&config::Server| *it.name == *server.name && it.address == server.address;
            let entry = options.servers.iter().find(is_its);
            let apart = entry.and_then(|it| it.health_address).map(Upstream::Tcp);
            checks.spawn_local(async move { check_one(&pool, &rules, &server, apart.as_ref()).await });
        }
    }
    if checks.is_empty() {
        return std::future::pending().await;
    }
    while checks.join_next().await.is_some() {}
}

/// Checks a server, at the address for checks that it has `apart`.
async fn check_one(pool: &Servers, rules: &Health, server: &Arc<Server>, apart: Option<&Upstream>) {
    let upstream = apart.unwrap_or(&server.upstream);
    let host = match upstream {
        Upstream::Tcp(address) => address.to_string(),
        Upstream::Name(_) => server.address.to_string(),
        Upstream::Unix(_) => "localhost".to_owned(),
    };
    let mut interval = tokio::time::interval(*rules.interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut responses = server.responses_seen();
    loop {
        interval.tick().await;
        // The kernel accepts connections even if the process is blocked. So the process itself is probed when its
        // state is in doubt: it has requests and no response began since the last check, or it is not up.
        let is_quiet = server.awaiting_response() > 0 && server.responses_seen() == responses;
        let probe = match &rules.path {
            Some(path) => Probe::Path(path),
            None if is_quiet || server.standing() != Standing::Up => Probe::Ping,
            None => Probe::Connect,
        };
        responses = server.responses_seen();
        let checked = check(*rules.timeout, probe, upstream, &host).await;
        if let Some(reachable) = checked.reachable {
            pool.set_reachable(server, reachable);
        }
        let has_responded = matches!(checked.outcome, Ok(()) | Err(HealthFailure::Status(_)));
        if has_responded && !matches!(probe, Probe::Connect) {
            pool.response_began(server);
        }
        match checked.outcome {
            Ok(()) => {
                if server.check_passed() >= rules.rise.get() {
                    pool.set_health(server, true, "");
                }
            }
            // An error status is reliable: one is enough.
            Err(failure @ HealthFailure::Status(_)) => {
                server.check_failed();
                pool.set_health(server, false, &failure.to_string());
            }
            Err(HealthFailure::OutOfSockets) => {}
            // On a busy machine checks are late. A server that responds to requests is alive.
            Err(HealthFailure::Timeout(_)) if server.responses_seen() != responses => {
                server.check_inconclusive();
            }
            // It may be busy with its requests: a slow server is not a dead one.
            Err(HealthFailure::Timeout(_)) if server.awaiting_response() > 0 => {
                server.check_inconclusive();
                pool.set_silent(server, true);
            }
            Err(failure) => {
                if server.check_failed() >= rules.fall.get() {
                    pool.set_health(server, false, &failure.to_string());
                }
            }
        }
    }
}

/// The result of a check.
struct CheckResult {
    outcome: Result<(), HealthFailure>,
    /// Whether the connection was established, if that is known.
    reachable: Option<bool>,
}

async fn check(timeout: Duration, probe: Probe<'_>, upstream: &Upstream, host: &str) -> CheckResult {
    let connected = Cell::new(false);
    let outcome = match tokio::time::timeout(timeout, run(probe, upstream, host, &connected)).await {
        Err(_) => Err(HealthFailure::Timeout(timeout)),
        Ok(Err(error)) if socket::is_out_of_resources(&error) => {
            return CheckResult { outcome: Err(HealthFailure::OutOfSockets), reachable: None };
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(HealthFailure::Refused),
        // A Unix socket that is not there.
        Ok(Err(error)) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
            Err(HealthFailure::Refused)
        }
        Ok(Err(error)) => Err(HealthFailure::Failed(error.to_string())),
        Ok(Ok(Some(status))) if status >= 500 => Err(HealthFailure::Status(status)),
        Ok(Ok(_)) => Ok(()),
    };
    CheckResult { outcome, reachable: Some(connected.get()) }
}

/// Runs a probe. Returns the status of the response for [`Probe::Path`]; sets `connected` once the connection is
/// established.
async fn run(
    probe: Probe<'_>,
    upstream: &Upstream,
    host: &str,
    connected: &Cell<bool>,
) -> io::Result<Option<u16>> {
    let socket = upstream.connect().await?;
    connected.set(true);
    let line = match probe {
        Probe::Connect => return Ok(None),
        Probe::Ping => PING.to_owned(),
        Probe::Path(path) => format!("GET {path}"),
    };
    let request = format!(
        "{line} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tercet-balancer\r\nConnection: close\r\n\r\n"
    );
    let mut rest = request.as_bytes();
    while !rest.is_empty() {
        let count = poll_fn(|context| socket.poll_write(context, rest)).await?;
        rest = &rest[count..];
    }
    let limits = HeadLimits { head_bytes: HEAD_BYTES, headers: 100, target_bytes: 0, body_bytes: u64::MAX };
    let mut received = Vec::with_capacity(1024);
    let mut piece = [0; 1024];
    loop {
        let count = poll_fn(|context| socket.poll_read(context, &mut piece)).await?;
        received.extend_from_slice(&piece[..count]);
        if let Probe::Ping = probe {
            return Ok(None);
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let request_info = RequestInfo { method: Method::Get, upgrade: false };
        match response::parse(&received, &limits, request_info) {
            Ok(Some(head)) if !head.is_interim() => return Ok(Some(head.status)),
            Ok(Some(head)) => drop(received.drain(..head.length)),
            Ok(None) => {}
            Err(refusal) => return Err(io::Error::other(refusal.reason)),
        }
    }
}

/// Ends ejections, and the drain time of removed servers, at their deadlines. Never returns.
pub(crate) async fn end_deadlines(shared: Arc<Shared>) {
    loop {
        let added = shared.pools.deadline_added().notified();
        match shared.pools.end_deadlines(std::time::Instant::now()) {
            None => added.await,
            Some(until) => {
                let _ = tokio::time::timeout_at(Instant::from_std(until), added).await;
            }
        }
    }
}
