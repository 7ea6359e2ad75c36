//! A scan: connection attempts to every TCP port of addresses, at a limited rate.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use super::Reachability;
use super::attempt::{at_once, attempt};

/// The attempts begin in this rhythm.
const RHYTHM: Duration = Duration::from_millis(20);

/// An attempt: `None` if it timed out.
type Attempt = io::Result<(SocketAddr, Option<Reachability>)>;

/// Attempts a connection to every TCP port of each address, `per_second` of them; returns those that did not time out. An address
/// without a route is tried once.
///
/// # Errors
/// An attempt cannot be made, for example for want of local ports.
pub(crate) fn scan(addresses: &[IpAddr], per_second: u32) -> Result<Vec<(SocketAddr, Reachability)>> {
    let at_once = at_once();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut answers = Vec::new();
        for address in addresses {
            let found = scan_one(*address, per_second, at_once).await;
            answers.extend(found.with_context(|| format!("{address} cannot be scanned"))?);
        }
        Ok(answers)
    })
}

async fn scan_one(
    address: IpAddr,
    per_second: u32,
    at_once: usize,
) -> io::Result<Vec<(SocketAddr, Reachability)>> {
    let first = SocketAddr::new(address, 1);
    if let Some(Reachability::NoRoute) = attempt(first).await? {
        return Ok(vec![(first, Reachability::NoRoute)]);
    }
    let each = (f64::from(per_second) * RHYTHM.as_secs_f64()).ceil() as usize;
    let mut rhythm = interval(RHYTHM);
    rhythm.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut attempts, mut answers) = (JoinSet::new(), Vec::new());
    let mut take = |attempted: Result<Attempt, JoinError>| {
        let (at, reached) = attempted.map_err(io::Error::other)??;
        answers.extend(reached.map(|reached| (at, reached)));
        io::Result::Ok(())
    };
    for port in 1..=u16::MAX {
        if usize::from(port) % each == 0 {
            rhythm.tick().await;
        }
        while let Some(attempted) = attempts.try_join_next() {
            take(attempted)?;
        }
        if attempts.len() >= at_once
            && let Some(attempted) = attempts.join_next().await
        {
            take(attempted)?;
        }
        let target = SocketAddr::new(address, port);
        attempts.spawn(async move { Ok((target, attempt(target).await?)) });
    }
    while let Some(attempted) = attempts.join_next().await {
        take(attempted)?;
    }
    answers.sort_by_key(|(at, _)| *at);
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_scan_finds_every_listener() {
        let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let answers = scan(&[[127, 0, 0, 1].into()], 1_000_000).unwrap();
        // All other ports of loopback are refused.
        assert_eq!(answers.len(), usize::from(u16::MAX));
        for listener in listeners {
            let address = listener.local_addr().unwrap();
            assert!(answers.contains(&(address, Reachability::Open)), "{address}");
        }
    }
}
