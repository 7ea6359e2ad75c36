//! What becomes of connections on one listening address, and how they begin: the PROXY header, TLS, and which
//! HTTP is spoken.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::client::Client;
use crate::config::{Config, Listen};
use crate::socket::Socket;
use crate::tls::{Tls, TlsError};
use crate::worker::Worker;
use crate::{connection, proxy_protocol};

/// One listening address as it is configured.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listen: Listen,
    pub(crate) tls: Option<Arc<Tls>>,
}

/// All doors of a configuration.
#[derive(Debug)]
pub(crate) struct Doors(Vec<Arc<Door>>);

impl Doors {
    /// Loads what the configuration's addresses need; certificates that `before` has already stay loaded.
    ///
    /// # Errors
    /// Certificates that cannot be used.
    pub(crate) fn load(config: &Config, before: Option<&Self>) -> Result<Self, TlsError> {
        let load = |listen: &Listen| {
            let tls = if listen.certificates.is_empty() {
                None
            } else if let Some(tls) = before.and_then(|before| before.tls_of(listen)) {
                Some(tls)
            } else {
                Some(Arc::new(Tls::load(&listen.certificates)?))
            };
            Ok(Arc::new(Door { listen: listen.clone(), tls }))
        };
        Ok(Self(config.listen.iter().map(load).collect::<Result<_, _>>()?))
    }

    fn tls_of(&self, listen: &Listen) -> Option<Arc<Tls>> {
        let same = |door: &&Arc<Door>| door.listen.certificates == listen.certificates;
        self.0.iter().find(same)?.tls.clone()
    }

    /// The door at this configured address.
    pub(crate) fn at(&self, address: SocketAddr) -> Option<Arc<Door>> {
        self.0.iter().find(|door| door.listen.address == address).cloned()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Door>> {
        self.0.iter()
    }
}

/// Begins a connection that was just accepted and serves it to its end.
pub(crate) async fn enter(worker: Rc<Worker>, door: Arc<Door>, mut stream: TcpStream, peer: IpAddr) {
    let watch = worker.clock.watch();
    if !door.listen.proxy_protocol && door.tls.is_none() {
        return connection::serve(worker, Client::new(Socket::plain(stream), watch, peer, door)).await;
    }
    // A handshake is rare and its state large: an idle connection must not carry it.
    let shaken = Box::pin(async {
        let address =
            if door.listen.proxy_protocol { read_proxy_header(&mut stream, peer).await? } else { peer };
        let Some(tls) = &door.tls else { return Ok((Socket::plain(stream), address)) };
        let stream = TlsAcceptor::from(tls.config()).accept(stream).await?;
        Ok((Socket::tls(Box::new(stream)), address))
    });
    watch.set(worker.config().timeouts.handshake);
    // A handshake that failed has told the client so; there is nobody else to tell.
    let Ok((socket, address)) = watch.in_time(shaken).await else { return };
    connection::serve(worker, Client::new(socket, watch, address, door)).await;
}

/// Takes the header off the front of the connection, and nothing behind it: who connected to the proxy.
async fn read_proxy_header(stream: &mut TcpStream, peer: IpAddr) -> io::Result<IpAddr> {
    let mut seen = Vec::new();
    let mut ahead = [0; 512];
    loop {
        let count = stream.peek(&mut ahead).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = seen.len();
        seen.extend_from_slice(&ahead[..count]);
        let header = proxy_protocol::parse(&seen).map_err(io::Error::other)?;
        let taken = header.map_or(count, |header| header.length - before);
        stream.read_exact(&mut ahead[..taken]).await?;
        if let Some(header) = header {
            return Ok(header.source.map_or(peer, |source| source.ip().to_canonical()));
        }
    }
}
