//! Connections to servers: to an IP address, to the addresses of a name, or to a Unix socket.
//!
//! A name is resolved by the system (getaddrinfo): /etc/hosts, and the name servers with their caches. This module does not depend on
//! requests.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use crate::config::ServerAddress;
use crate::socket::Socket;

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
    addresses: ArcSwap<Vec<SocketAddr>>,
    /// Connections so far: each begins with another address.
    connections: AtomicUsize,
}

impl Upstream {
    pub(crate) fn new(address: &ServerAddress) -> Self {
        match address {
            ServerAddress::Tcp(address) => Self::Tcp(*address),
            ServerAddress::Name(name, port) => Self::Name(Name {
                host: name.clone(),
                port: *port,
                addresses: ArcSwap::default(),
                connections: AtomicUsize::new(0),
            }),
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
    async fn connect(&self) -> io::Result<Socket> {
        let mut addresses = self.addresses.load_full();
        if addresses.is_empty() {
            addresses = self.resolve().await?;
        }
        let first = self.connections.fetch_add(1, Ordering::Relaxed) % addresses.len().max(1);
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses.iter().cycle().skip(first).take(addresses.len()) {
            match Socket::connect_tcp(*address).await {
                Ok(socket) => return Ok(socket),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn resolve(&self) -> io::Result<Arc<Vec<SocketAddr>>> {
        let resolved = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let found = resolved.map_err(|error| {
            let reason = error.to_string();
            let reason = reason.strip_prefix("failed to lookup address information: ").unwrap_or(&reason);
            io::Error::new(error.kind(), format!("{} does not resolve: {reason}", self.host))
        })?;
        let mut addresses: Vec<SocketAddr> = found.collect();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", self.host)));
        }
        let addresses = Arc::new(addresses);
        self.addresses.store(Arc::clone(&addresses));
        Ok(addresses)
    }
}
