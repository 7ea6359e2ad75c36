//! Asking servers whether they live, on a thread of its own so that busy workers cannot make them look dead.
//!
//! Each check is a fresh connection and one `GET`. What the verdict means for the rotation is decided in
//! [`crate::servers`].

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
use crate::server::Server;
use crate::shared::Shared;

/// Bytes of an answer's head a check looks at.
const HEAD_BYTES: usize = 16 * 1024;

/// Why a check failed.
#[derive(Debug, thiserror::Error)]
enum Ill {
    #[error("nobody listens on its port")]
    Refused,
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the check was answered {0}")]
    Status(u16),
    #[error("the check was not answered: {0}")]
    Failed(String),
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
    loop {
        interval.tick().await;
        let before = server.answer_count();
        match check(rules, address).await {
            // On a busy machine a check is late like everything else. Whoever answers requests lives.
            Err(Ill::Timeout(_)) if server.answer_count() != before => server.check_excused(),
            Ok(()) => {
                if server.check_passed() >= rules.rise.get() {
                    shared.servers.set_health(server, true, "");
                }
            }
            Err(ill) => {
                // A refused connection leaves no doubt.
                if server.check_failed() >= rules.fall.get() || matches!(ill, Ill::Refused) {
                    shared.servers.set_health(server, false, &ill.to_string());
                }
            }
        }
    }
}

async fn check(rules: &Health, address: SocketAddr) -> Result<(), Ill> {
    let asked = tokio::time::timeout(rules.timeout, ask(&rules.path, address));
    match asked.await {
        Err(_) => Err(Ill::Timeout(rules.timeout)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(Ill::Refused),
        Ok(Err(error)) => Err(Ill::Failed(error.to_string())),
        Ok(Ok(status)) if status >= 500 => Err(Ill::Status(status)),
        Ok(Ok(_)) => Ok(()),
    }
}

/// Sends one request and returns the status of its answer.
async fn ask(path: &str, address: SocketAddr) -> io::Result<u16> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: tercet-balancer\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let limits = HeadLimits { head_bytes: HEAD_BYTES, headers: 100, target_bytes: 0, body_bytes: u64::MAX };
    let mut answer = Vec::with_capacity(1024);
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let asked = Asked { method: Method::Get, upgrade: false };
        match response::parse(&answer, &limits, asked) {
            Ok(Some(head)) if !head.is_interim() => return Ok(head.status),
            Ok(Some(head)) => drop(answer.drain(..head.length)),
            Ok(None) => {}
            Err(refusal) => return Err(io::Error::other(refusal.reason)),
        }
    }
}

/// Ends ejections when their time is over.
pub(crate) async fn end_ejections(shared: Arc<Shared>) {
    loop {
        let added = shared.servers.ejection_added.notified();
        match shared.servers.end_ejections(std::time::Instant::now()) {
            None => added.await,
            Some(until) => {
                let _ = tokio::time::timeout_at(Instant::from_std(until), added).await;
            }
        }
    }
}
