//! Asking servers whether they live, on a thread of its own so that busy workers cannot make them look dead.
//!
//! Each check is a fresh connection, and one request on it where a path is configured or there is doubt. A verdict
//! is about new requests: what a server has been given stays there. What it means for the rotation is decided in
//! [`crate::servers`].

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::Health;
use crate::http1::response::{self, Asked};
use crate::http1::{HeadLimits, Method};
use crate::server::{Server, Standing};
use crate::shared::Shared;
use crate::socket;

/// Bytes of an answer's head a check looks at.
const HEAD_BYTES: usize = 16 * 1024;

/// What a server is asked whose checks have no path: any answer shows that it is at work (RFC 9110 section 9.3.7).
const PING: &str = "OPTIONS *";

/// What a check asks.
#[derive(Clone, Copy, Debug)]
enum Question<'a> {
    /// Whether somebody listens.
    Connect,
    /// Whether the program says anything at all.
    Ping,
    /// What it answers to this path.
    Path(&'a str),
}

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
enum HealthFailure {
    #[error("connection refused")]
    Refused,
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the check was answered {0}")]
    Status(u16),
    #[error("the check was not answered: {0}")]
    Failed(String),
    #[error("this process has no sockets left")]
    OwnFault,
}

/// Checks every server until the configuration changes: one task each.
pub(crate) async fn check_all(shared: Arc<Shared>) {
    let config = shared.config.load_full();
    let rules = Rc::new(config.health.clone());
    let mut checks = tokio::task::JoinSet::new();
    for server in shared.servers.all() {
        let (shared, rules) = (Arc::clone(&shared), Rc::clone(&rules));
        let entry = config.servers.iter().find(|it| *it.name == *server.name && it.address == server.address);
        let address = entry.and_then(|it| it.health_address).unwrap_or(server.address);
        checks.spawn_local(async move { check_one(&shared, &rules, &server, address).await });
    }
    if checks.is_empty() {
        return std::future::pending().await;
    }
    while checks.join_next().await.is_some() {}
}

async fn check_one(shared: &Shared, rules: &Health, server: &Arc<Server>, address: SocketAddr) {
    let mut interval = tokio::time::interval(rules.interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut signs = server.signs();
    loop {
        interval.tick().await;
        // That a connection is accepted says something about its kernel. Whether the program is at work is asked
        // when there is doubt: it has requests and has said nothing since the last check, or was found wanting.
        let is_quiet = server.held() > 0 && server.signs() == signs;
        let question = match &rules.path {
            Some(path) => Question::Path(path),
            None if is_quiet || server.standing() != Standing::Up => Question::Ping,
            None => Question::Connect,
        };
        signs = server.signs();
        let checked = check(rules.timeout, question, address).await;
        if let Some(reachable) = checked.reachable {
            shared.servers.set_reachable(server, reachable);
        }
        let is_alive = matches!(checked.outcome, Ok(()) | Err(HealthFailure::Status(_)));
        if is_alive && !matches!(question, Question::Connect) {
            shared.servers.heard(server);
        }
        match checked.outcome {
            Ok(()) => {
                if server.check_passed() >= rules.rise.get() {
                    shared.servers.set_health(server, true, "");
                }
            }
            // It says so itself.
            Err(ill @ HealthFailure::Status(_)) => {
                server.check_failed();
                shared.servers.set_health(server, false, &ill.to_string());
            }
            Err(HealthFailure::OwnFault) => {}
            // On a busy machine a check is late like everything else. Whoever answers requests lives.
            Err(HealthFailure::Timeout(_)) if server.signs() != signs => server.check_excused(),
            // It may be busy with what it has: a slow server is not a dead one.
            Err(HealthFailure::Timeout(_)) if server.held() > 0 => {
                server.check_excused();
                shared.servers.set_silent(server, true);
            }
            Err(ill) => {
                if server.check_failed() >= rules.fall.get() {
                    shared.servers.set_health(server, false, &ill.to_string());
                }
            }
        }
    }
}

/// What came of a check.
struct Checked {
    outcome: Result<(), HealthFailure>,
    /// Whether a connection could be made, if that is known.
    reachable: Option<bool>,
}

async fn check(patience: Duration, question: Question<'_>, address: SocketAddr) -> Checked {
    let connected = Cell::new(false);
    let asked = tokio::time::timeout(patience, ask(question, address, &connected)).await;
    let outcome = match asked {
        Err(_) => Err(HealthFailure::Timeout(patience)),
        Ok(Err(error)) if socket::is_own_fault(&error) => {
            return Checked { outcome: Err(HealthFailure::OwnFault), reachable: None };
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(HealthFailure::Refused),
        Ok(Err(error)) => Err(HealthFailure::Failed(error.to_string())),
        Ok(Ok(Some(status))) if status >= 500 => Err(HealthFailure::Status(status)),
        Ok(Ok(_)) => Ok(()),
    };
    Checked { outcome, reachable: Some(connected.get()) }
}

/// Asks and returns the status of the answer, if it matters.
async fn ask(question: Question<'_>, address: SocketAddr, connected: &Cell<bool>) -> io::Result<Option<u16>> {
    let mut stream = TcpStream::connect(address).await?;
    connected.set(true);
    let line = match question {
        Question::Connect => return Ok(None),
        Question::Ping => PING.to_owned(),
        Question::Path(path) => format!("GET {path}"),
    };
    let request = format!(
        "{line} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: tercet-balancer\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let limits = HeadLimits { head_bytes: HEAD_BYTES, headers: 100, target_bytes: 0, body_bytes: u64::MAX };
    let mut answer = Vec::with_capacity(1024);
    loop {
        let count = stream.read_buf(&mut answer).await?;
        if let Question::Ping = question {
            return Ok(None);
        }
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let asked = Asked { method: Method::Get, upgrade: false };
        match response::parse(&answer, &limits, asked) {
            Ok(Some(head)) if !head.is_interim() => return Ok(Some(head.status)),
            Ok(Some(head)) => drop(answer.drain(..head.length)),
            Ok(None) => {}
            Err(refusal) => return Err(io::Error::other(refusal.reason)),
        }
    }
}

/// Ends ejections, and the time that removed servers have, when they are over.
pub(crate) async fn end_deadlines(shared: Arc<Shared>) {
    loop {
        let added = shared.servers.deadline_added.notified();
        match shared.servers.end_deadlines(std::time::Instant::now()) {
            None => added.await,
            Some(until) => {
                let _ = tokio::time::timeout_at(Instant::from_std(until), added).await;
            }
        }
    }
}
