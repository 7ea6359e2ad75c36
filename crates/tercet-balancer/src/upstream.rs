//! Connections to servers: to an IP address, to the addresses of a name, or to a Unix socket.
//!
//! A name is resolved by the system (getaddrinfo): /etc/hosts, and the name servers with their caches. This module does not depend on
//! requests.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

use crate::config::ServerAddress;
use crate::socket::Socket;

/// How long an address may take to accept a connection until the next one is tried, too (RFC 8305 section 5).
const TURN: Duration = Duration::from_millis(250);

/// Where a server listens.
#[derive(Debug)]
pub(crate) enum Upstream {
    Tcp(SocketAddr),
    Name(Name),
    Unix(PathBuf),
}

/// A name and its addresses.
#[derive(Debug)]
pub(crate) struct Name {
    host: String,
    port: u16,
    /// Empty before it was resolved.
    addresses: Arc<ArcSwap<Vec<SocketAddr>>>,
    /// Held during a lookup. A lookup cannot be cancelled, so with one for each request that waits a slow name server would take
    /// all threads for blocking work.
    resolving: Arc<Mutex<()>>,
    lookup: Lookup,
    /// Connections so far: each begins with another address.
    connections: AtomicUsize,
}

/// Looks the addresses of a host up; blocks.
type Lookup = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// By the system.
fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    (host, port).to_socket_addrs().map(Iterator::collect)
}

impl Upstream {
    pub(crate) fn new(address: &ServerAddress) -> Self {
        match address {
            ServerAddress::Tcp(address) => Self::Tcp(*address),
            ServerAddress::Name(name, port) => Self::Name(Name::new(name, *port, look_up)),
            ServerAddress::Unix(path) => Self::Unix(path.clone()),
        }
    }

    /// Connects.
    ///
    /// # Errors
    /// The name does not resolve, or no address accepts the connection.
    pub(crate) async fn connect(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(address) => Socket::connect_tcp(*address).await,
            Self::Name(name) => name.connect().await,
            Self::Unix(path) => Socket::connect_unix(path).await,
        }
    }

    /// Resolves the name again, if it has one. If that fails, the addresses stay as they are.
    pub(crate) async fn resolve(&self) {
        if let Self::Name(name) = self {
            // A health check that cannot connect reports the reason.
            let _ = name.resolve().await;
        }
    }

    /// Whether a connection to `peer`, or to a Unix socket, may be used for more requests: a name may have other addresses by
    /// now.
    pub(crate) fn leads_to(&self, peer: impl FnOnce() -> Option<SocketAddr>) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => true,
            Self::Name(name) => peer().is_some_and(|peer| name.addresses.load().contains(&peer)),
        }
    }
}

impl Name {
    fn new(host: &str, port: u16, lookup: Lookup) -> Self {
        Self {
            host: host.to_owned(),
            port,
            addresses: Arc::default(),
            resolving: Arc::default(),
            lookup,
            connections: AtomicUsize::new(0),
        }
    }

    async fn connect(&self) -> io::Result<Socket> {
        let addresses = self.known().await?;
        let first = self.connections.fetch_add(1, Ordering::Relaxed) % addresses.len().max(1);
        let addresses = addresses.iter().cycle().skip(first).take(addresses.len());
        first_of(addresses.map(|address| Socket::connect_tcp(*address))).await
    }

    /// The addresses, after the first lookup.
    async fn known(&self) -> io::Result<Arc<Vec<SocketAddr>>> {
        let addresses = self.addresses.load_full();
        if !addresses.is_empty() {
            return Ok(addresses);
        }
        let resolving = Arc::clone(&self.resolving).lock_owned().await;
        let addresses = self.addresses.load_full();
        // Another request has resolved it meanwhile.
        if addresses.is_empty() { self.look_up(resolving).await } else { Ok(addresses) }
    }

    async fn resolve(&self) -> io::Result<Arc<Vec<SocketAddr>>> {
        let resolving = Arc::clone(&self.resolving).lock_owned().await;
        self.look_up(resolving).await
    }

    /// Looks the addresses up, to the end even if no request waits for them any more.
    async fn look_up(&self, resolving: OwnedMutexGuard<()>) -> io::Result<Arc<Vec<SocketAddr>>> {
        let (host, port, lookup) = (self.host.clone(), self.port, self.lookup);
        let addresses = Arc::clone(&self.addresses);
        let looking_up = tokio::task::spawn_blocking(move || {
            let _resolving = resolving;
            let mut found = lookup(&host, port).map_err(|error| {
                let reason = error.to_string();
                let reason = reason.strip_prefix("failed to lookup address information: ").unwrap_or(&reason);
                io::Error::new(error.kind(), format!("{host} does not resolve: {reason}"))
            })?;
            found.sort_unstable();
            found.dedup();
            if found.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")));
            }
            let found = Arc::new(found);
            addresses.store(Arc::clone(&found));
            Ok(found)
        });
        looking_up.await.map_err(io::Error::other)?
    }
}

/// The first success of these operations. The next one is begun when another has failed, or when a [`TURN`] is over: an address
/// of a machine that is off does not even refuse.
async fn first_of<T, F: Future<Output = io::Result<T>>>(
    mut operations: impl Iterator<Item = F>,
) -> io::Result<T> {
    let mut begun: Vec<Pin<Box<F>>> = Vec::new();
    let mut turn = pin!(tokio::time::sleep(Duration::ZERO));
    let mut failed = io::ErrorKind::NotFound.into();
    poll_fn(|context| {
        loop {
            let before = begun.len();
            for index in (0..before).rev() {
                match begun[index].as_mut().poll(context) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(success)) => return Poll::Ready(Ok(success)),
                    Poll::Ready(Err(error)) => {
                        failed = error;
                        drop(begun.swap_remove(index));
                    }
                }
            }
            let may_begin =
                begun.is_empty() || begun.len() < before || turn.as_mut().poll(context).is_ready();
            let next = if may_begin { operations.next() } else { None };
            match next {
                Some(operation) => {
                    begun.push(Box::pin(operation));
                    turn.as_mut().reset(Instant::now() + TURN);
                }
                None if begun.is_empty() => {
                    return Poll::Ready(Err(std::mem::replace(&mut failed, io::ErrorKind::NotFound.into())));
                }
                None => return Poll::Pending,
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::sync::{Condvar, Mutex as BlockingMutex};
    use std::task::Poll;

    use super::*;

    /// Lookups so far, and whether they may end.
    static LOOKUPS: (BlockingMutex<(usize, bool)>, Condvar) =
        (BlockingMutex::new((0, false)), Condvar::new());

    fn slow(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let (state, changed) = &LOOKUPS;
        let mut state = state.lock().unwrap();
        state.0 += 1;
        changed.notify_all();
        drop(changed.wait_while(state, |state| !state.1).unwrap());
        look_up(host, port)
    }

    /// What becomes of a connection to an address.
    #[derive(Clone, Copy)]
    enum Address {
        Accepts(Duration),
        Refuses(Duration),
        Off,
    }

    async fn connect(address: Address) -> io::Result<Duration> {
        match address {
            Address::Accepts(after) => {
                tokio::time::sleep(after).await;
                Ok(after)
            }
            Address::Refuses(after) => {
                tokio::time::sleep(after).await;
                Err(io::ErrorKind::ConnectionRefused.into())
            }
            Address::Off => std::future::pending().await,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_does_not_respond_delays_the_next_one_by_a_turn() {
        use Address::{Accepts, Off, Refuses};
        let [soon, late] = [1, 1000].map(Duration::from_millis);
        for (addresses, expected, turns) in [
            (vec![Accepts(soon), Off], Some(soon), 0),
            (vec![Off, Accepts(soon)], Some(soon), 1),
            (vec![Off, Off, Accepts(soon)], Some(soon), 2),
            (vec![Refuses(soon), Off, Refuses(soon), Accepts(soon)], Some(soon), 1),
            // It is slow, and not given up.
            (vec![Accepts(late), Off, Refuses(soon)], Some(late), 0),
            (vec![Refuses(soon), Refuses(soon)], None, 0),
            (vec![], None, 0),
        ] {
            let started = Instant::now();
            let found = first_of(addresses.iter().map(|address| connect(*address))).await;
            assert_eq!(found.ok(), expected);
            let waited = started.elapsed().saturating_sub(expected.unwrap_or_default());
            assert!(waited >= TURN * turns && waited < TURN * turns + TURN / 2, "{waited:?}, {turns}");
        }
    }

    /// Lets lookups end, once one has begun.
    fn release() {
        let (state, changed) = &LOOKUPS;
        changed.wait_while(state.lock().unwrap(), |state| state.0 == 0).unwrap().1 = true;
        changed.notify_all();
    }

    #[tokio::test]
    async fn requests_share_a_lookup_that_outlives_them() {
        let name = Name::new("192.0.2.1", 80, slow);
        for _ in 0..100 {
            // Given up while the lookup lasts, as after the connect timeout.
            let mut waiting = Box::pin(name.known());
            let mut resolving = Box::pin(name.resolve());
            poll_fn(|context| {
                assert!(waiting.as_mut().poll(context).is_pending());
                assert!(resolving.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        release();
        let found = name.known().await.unwrap();
        assert_eq!(*found, [SocketAddr::from(([192, 0, 2, 1], 80))]);
        assert_eq!(LOOKUPS.0.lock().unwrap().0, 1, "lookups");
    }
}
