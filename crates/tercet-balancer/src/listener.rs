//! Taking connections off listening sockets, and how they begin: the PROXY header, TLS, and which HTTP is spoken.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::bind_address::BindAddress;
use crate::client::Client;
use crate::listening::BACKLOG;
use crate::request_buffers::RequestBuffers;
use crate::socket::Socket;
use crate::worker::Worker;
use crate::{connection, http2, proxy_protocol};

/// How long accepting pauses when there are no descriptors left.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// Accepts connections at the bind_address of this configured address until `stop`, each served by a task of its own.
pub(crate) async fn accept(
    worker: Rc<Worker>,
    address: SocketAddr,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accept = async {
            worker.shared.limits.room(&worker.config().limits).await;
            listener.accept().await
        };
        let accepted = tokio::select! {
            accepted = accept => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => begin(&worker, address, stream, peer.ip().to_canonical()),
            // The connection was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => tokio::time::sleep(OUT_OF_DESCRIPTORS).await,
        }
    }
    // What waits in the kernel is still served: it would be reset when the socket closes. The kernel itself is
    // asked, since the runtime may not have heard of it yet. Others may come while it is taken, so it is no more
    // than can have waited.
    let Ok(listener) = listener.into_std() else { return };
    for _ in 0..BACKLOG {
        match listener.accept() {
            Ok((stream, peer)) => {
                if stream.set_nonblocking(true).is_ok()
                    && let Ok(stream) = TcpStream::from_std(stream)
                {
                    begin(&worker, address, stream, peer.ip().to_canonical());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => return,
        }
    }
}

fn begin(worker: &Rc<Worker>, address: SocketAddr, stream: TcpStream, peer: IpAddr) {
    let Some(bind_address) = worker.shared.bind_addresses.load().at(address) else { return };
    let Some(entered) = worker.enter(peer) else { return };
    // Without it the last part of an answer may wait for an acknowledgement; nothing else depends on it.
    let _ = stream.set_nodelay(true);
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let _entered = entered;
        enter(worker, bind_address, stream, peer).await;
    });
}

/// Begins a connection that was just accepted and serves it to its end.
async fn enter(worker: Rc<Worker>, bind_address: Arc<BindAddress>, mut stream: TcpStream, peer: IpAddr) {
    let watch = worker.clock.watch();
    if !bind_address.listen.proxy_protocol && bind_address.tls.is_none() {
        return serve(worker, Box::new(Client::new(Socket::plain(stream), watch, peer, bind_address))).await;
    }
    // A handshake is rare and its state large: an idle connection must not carry it.
    let shaken = Box::pin(async {
        let address = if bind_address.listen.proxy_protocol {
            read_proxy_header(&mut stream, peer).await?
        } else {
            peer
        };
        let Some(tls) = &bind_address.tls else { return Ok((Socket::plain(stream), address)) };
        let stream = TlsAcceptor::from(tls.config()).accept(stream).await?;
        Ok((Socket::tls(Box::new(stream)), address))
    });
    watch.set(worker.config().timeouts.handshake);
    // A handshake that failed has told the client so; there is nobody else to tell.
    let Ok((socket, address)) = watch.in_time(shaken).await else { return };
    serve(worker, Box::new(Client::new(socket, watch, address, bind_address))).await;
}

/// Serves a connection by the HTTP that was agreed on, or that it starts with.
async fn serve(worker: Rc<Worker>, client: Box<Client>) {
    let Some(mut buffers) = connection::first_bytes(&worker, &client).await else { return };
    if speaks_http2(&client, &mut buffers).await {
        let early = Bytes::copy_from_slice(buffers.client.filled());
        worker.buffer_pool.give_back(buffers);
        return Box::pin(http2::serve(worker, *client, early)).await;
    }
    connection::serve(worker, client, buffers).await;
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

/// Whether the client agreed on HTTP/2 (RFC 9113 section 3.2), or without TLS starts as HTTP/2 does (section 3.3).
async fn speaks_http2(client: &Client, buffers: &mut RequestBuffers) -> bool {
    if let Some(agreed) = client.socket.has_agreed_on_http2() {
        return agreed;
    }
    loop {
        if let Some(is_preface) = http2::is_preface(buffers.client.filled()) {
            return is_preface;
        }
        let read = poll_fn(|context| client.socket.poll_read(context, buffers.client.spare()));
        match client.in_time(read).await {
            Ok(count) if count > 0 => buffers.client.advance(count),
            // Whoever reads next finds the same.
            Ok(_) | Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state_of<T>(_: fn(Rc<Worker>, Arc<BindAddress>, TcpStream, IpAddr) -> T) -> usize {
        size_of::<T>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        assert!(state_of(enter) <= 384, "{} bytes", state_of(enter));
    }
}
