//! Connection attempts, many at the same time: most of them wait for an answer that a firewall dropped.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Reachability, TIMEOUT};

/// The most attempts at a time; each is an open file for as long as it lasts.
const AT_ONCE: u64 = 4096;

/// Raises the limit of open files as far as the process may, and returns how many attempts may be made at a time.
pub(super) fn at_once() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    // Other parts of the process have files, too.
    maximum.map_or(AT_ONCE, |files| AT_ONCE.min(files / 4)) as usize
}

/// Attempts a connection to all targets; one result for each, in their order.
pub(super) fn all(targets: &[SocketAddr]) -> Result<Vec<Reachability>> {
    let at_once = at_once().max(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut results = vec![Reachability::TimedOut; targets.len()];
        let mut attempts = JoinSet::new();
        let mut waiting = targets.iter().copied().enumerate();
        loop {
            while attempts.len() < at_once
                && let Some((place, target)) = waiting.next()
            {
                attempts.spawn(async move { (place, attempt(target).await) });
            }
            let Some(attempted) = attempts.join_next().await else { return Ok(results) };
            let (place, result) = attempted?;
            results[place] = match result {
                Ok(reached) => reached.unwrap_or(Reachability::TimedOut),
                // This machine has no address of the family.
                Err(error) if error.kind() == ErrorKind::AddrNotAvailable => Reachability::NoRoute,
                Err(error) => {
                    return Err(error).with_context(|| format!("{} cannot be tried", targets[place]));
                }
            };
        }
    })
}

/// Attempts one connection; `None` if it timed out.
///
/// # Errors
/// It cannot be made, for example for want of local ports.
pub(super) async fn attempt(address: SocketAddr) -> io::Result<Option<Reachability>> {
    Ok(match timeout(TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Some(Reachability::Open),
        Ok(Err(error)) => match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Some(Reachability::Refused),
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Some(Reachability::NoRoute),
            ErrorKind::PermissionDenied => Some(Reachability::Prohibited),
            ErrorKind::TimedOut => None,
            _ => return Err(error),
        },
        Err(_) => None,
    })
}
