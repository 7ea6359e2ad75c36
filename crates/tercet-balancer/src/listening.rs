//! Listening sockets, and how they are bound.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Config;

/// The length of the accept queue; the kernel caps it at `net.core.somaxconn`.
pub(crate) const BACKLOG: i32 = 4096;

/// The sockets of one address: one, or one for each worker.
#[derive(Debug)]
pub struct Listening {
    /// The configured address; with port 0, [`local_address`](Self::local_address) has the assigned port.
    pub address: SocketAddr,
    /// The sockets.
    pub sockets: Vec<TcpListener>,
}

impl Listening {
    /// Binds an address, with one socket per worker.
    ///
    /// # Errors
    /// The address is in use or not permitted. The message names it.
    pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Self> {
        let sockets = bind(address, workers)
            .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
        Ok(Self { address, sockets })
    }

    /// Binds every configured address.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_all(config: &Config) -> io::Result<Vec<Self>> {
        let workers = worker_count(config);
        config.listen.iter().map(|listen| Self::bind(listen.address, workers)).collect()
    }

    /// The address the sockets are bound to.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.sockets.first()?.local_addr().ok()
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        let sockets = self.sockets.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?;
        Ok(Self { address: self.address, sockets })
    }

    /// The socket of this worker. If there are fewer sockets than workers (systemd passes one per address), workers
    /// share them.
    pub(crate) fn socket_of(&self, worker: usize) -> io::Result<TcpListener> {
        let socket = self.sockets[worker % self.sockets.len()].try_clone()?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

/// The number of workers for this configuration.
pub(crate) fn worker_count(config: &Config) -> usize {
    match config.workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        count => count,
    }
}

/// Binds `count` sockets to the same address; the kernel distributes connections among them (SO_REUSEPORT). With port
/// 0, all use the first one's port.
fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        // Fails if the address is in use: with SO_REUSEPORT a second process of the same user would share it.
        drop(new_socket(address, false)?);
    }
    let mut address = address;
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = new_socket(address, true)?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn new_socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
