//! The listeners: a TCP address or a Unix socket, perhaps another Unix socket, and the connections they accept.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net as unix;
use std::path::PathBuf;
use std::task::{Context, Poll, ready};

use socket2::{Domain, Protocol, Socket, Type};
use tercet_observe::unix_socket;
use tokio::net::{TcpListener, UnixListener};

use super::ServerError;
use crate::config::Config;

/// The listen backlog.
const BACKLOG: i32 = 1024;

/// A bound socket.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// An accepted connection.
#[derive(Debug)]
pub(super) enum Incoming {
    Tcp(std::net::TcpStream, IpAddr),
    Unix(unix::UnixStream),
}

impl Listener {
    /// Binds the configured addresses.
    pub(super) fn bind(config: &Config) -> Result<Vec<Self>, ServerError> {
        let unix = |path: &PathBuf| {
            unix_socket::bind(path, config.server_unix_socket_mode.0)
                .map(|listener| Self::Unix(listener, path.clone()))
                .map_err(|source| ServerError::Bind { address: path.display().to_string(), source })
        };
        let main = match &config.server_unix_socket {
            Some(path) => unix(path)?,
            None => Self::bind_tcp(config)?,
        };
        // The balancer first, whatever else connects.
        let local = config.server_local_socket.as_ref().map(unix).transpose()?;
        Ok(local.into_iter().chain([main]).collect())
    }

    fn bind_tcp(config: &Config) -> Result<Self, ServerError> {
        let (host, port) = (&config.server_host, config.server_port);
        addresses(host, port)
            .and_then(|addresses| bind_first(&addresses, config.server_reuseport))
            .map(Self::Tcp)
            .map_err(|source| ServerError::Bind { address: format!("{host}:{port}"), source })
    }

    pub(super) fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Incoming>> {
        Poll::Ready(match self {
            Self::Tcp(listener) => {
                let (stream, peer) = ready!(listener.poll_accept(context))?;
                stream.set_nodelay(true)?;
                Ok(Incoming::Tcp(stream.into_std()?, peer.ip()))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = ready!(listener.poll_accept(context))?;
                Ok(Incoming::Unix(stream.into_std()?))
            }
        })
    }
}

impl std::fmt::Display for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(listener) => match listener.local_addr() {
                Ok(address) => write!(f, "{address}"),
                Err(_) => f.write_str("a TCP address"),
            },
            Self::Unix(_, path) => path.display().fmt(f),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // The file may be gone already.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Accepts the next connection of any of them.
pub(super) async fn accept(listeners: &[Listener]) -> io::Result<Incoming> {
    poll_fn(|context| {
        let accepted = listeners.iter().find_map(|listener| match listener.poll_accept(context) {
            Poll::Ready(accepted) => Some(accepted),
            Poll::Pending => None,
        });
        accepted.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// Resolves a host option: `*`, `*4` and `!4` are any IPv4 address, `*6` and `!6` any IPv6 or IPv4 address.
pub(super) fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    use std::net::ToSocketAddrs as _;
    match host {
        "*" | "*4" | "!4" => Ok(vec![([0, 0, 0, 0], port).into()]),
        "*6" | "!6" => Ok(vec![([0u16; 8], port).into()]),
        name => (name.trim_matches(['[', ']']), port).to_socket_addrs().map(Iterator::collect),
    }
}

fn bind_first(addresses: &[SocketAddr], reuse_port: bool) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        match bind_tcp(*address, reuse_port) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_tcp(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
