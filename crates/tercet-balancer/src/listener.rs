//! Accepts connections, and sets them up: the PROXY header, TLS, and the HTTP version.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::server::Acceptor;
use tercet_observe::event::BalancerEvent;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

use crate::bind_address::BindAddress;
use crate::challenges;
use crate::client::Client;
use crate::listening::BACKLOG;
use crate::request_buffers::RequestBuffers;
use crate::socket::Socket;
use crate::tls::Tls;
use crate::worker::Worker;
use crate::{connection, http2, proxy_protocol};

/// How long accepting pauses after an error such as exhausted descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections on a configured address until `stop` is set, and spawns a task for each.
pub(crate) async fn accept(
    worker: Rc<Worker>,
    address: SocketAddr,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accept = async {
            worker.shared.limits.wait_for_capacity(&worker.config().limits).await;
            listener.accept().await
        };
        let accepted = tokio::select! {
            accepted = accept => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => begin(&worker, address, stream, peer.ip().to_canonical()),
            // The client closed the connection before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    // Closing the socket would reset the connections in the accept queue, so they are served first. The kernel is
    // asked directly, since the runtime may not have received the event yet. New connections may arrive meanwhile, so
    // the loop is bounded by the length of the queue.
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
    let Some(open) = worker.count_connection(peer) else { return };
    // A failure only costs latency (Nagle's algorithm).
    let _ = stream.set_nodelay(true);
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let _open = open;
        set_up(worker, bind_address, stream, peer).await;
    });
}

/// Runs the handshakes of an accepted connection, and serves it.
async fn set_up(worker: Rc<Worker>, bind_address: Arc<BindAddress>, mut stream: TcpStream, peer: IpAddr) {
    let deadline = worker.clock.deadline();
    if !bind_address.listen.proxy_protocol && bind_address.tls.is_none() {
        return serve(worker, Box::new(Client::new(Socket::plain(stream), deadline, peer, bind_address)))
            .await;
    }
    // Boxed, so that an idle connection does not hold the large state of a handshake.
    let handshake = Box::pin(async {
        let address = if bind_address.listen.proxy_protocol {
            read_proxy_header(&mut stream, peer).await?
        } else {
            peer
        };
        let Some(tls) = &bind_address.tls else { return Ok((Socket::plain(stream), address)) };
        let stream = if tls.may_lack_certificate() {
            accept_if_served(&worker, tls, stream, address).await?
        } else {
            TlsAcceptor::from(tls.config()).accept(stream).await?
        };
        if stream.get_ref().1.alpn_protocol() == Some(challenges::ALPN) {
            // The handshake was the challenge (RFC 8737 section 3).
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok((Socket::tls(Box::new(stream)), address))
    });
    deadline.set(*worker.config().timeouts.handshake);
    // Failed handshakes are not logged: rustls has sent the alert to the client.
    let Ok((socket, address)) = deadline.in_time(handshake).await else { return };
    serve(worker, Box::new(Client::new(socket, deadline, address, bind_address))).await;
}

/// The alert `unrecognized_name` as a record (RFC 8446 sections 5.1 and 6.2, RFC 6066 section 3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Runs the TLS handshake if there is a certificate for the client's server name; otherwise sends an alert.
async fn accept_if_served(
    worker: &Worker,
    tls: &Tls,
    stream: TcpStream,
    client: IpAddr,
) -> io::Result<TlsStream<TcpStream>> {
    let mut accepted = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    if !tls.serves(&accepted.client_hello()) {
        if let Some(domain) = tls.first_refusal(&accepted.client_hello()) {
            let client = &client.to_string();
            worker.shared.events.event(BalancerEvent::CertificateMissing { domain, client });
        }
        accepted.io.write_all(&UNRECOGNIZED_NAME).await?;
        accepted.io.shutdown().await?;
        return Err(io::Error::other("no certificate for the server name"));
    }
    accepted.into_stream(tls.config()).await
}

/// Serves a connection with the HTTP version that ALPN selected or that its first bytes show.
async fn serve(worker: Rc<Worker>, client: Box<Client>) {
    let Some(mut buffers) = connection::first_bytes(&worker, &client).await else { return };
    if speaks_http2(&client, &mut buffers).await {
        let early = Bytes::copy_from_slice(buffers.client.filled());
        worker.buffer_pool.give_back(buffers);
        return Box::pin(http2::serve(worker, *client, early)).await;
    }
    connection::serve(worker, client, buffers).await;
}

/// Reads the PROXY header, and no byte behind it. Returns its source address, or `peer` if it has none.
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

/// Whether the client uses HTTP/2: selected by ALPN (RFC 9113 section 3.2), or without TLS by its preface (section 3.3).
async fn speaks_http2(client: &Client, buffers: &mut RequestBuffers) -> bool {
    if let Some(selected) = client.socket.alpn_selected_http2() {
        return selected;
    }
    loop {
        if let Some(is_preface) = http2::is_preface(buffers.client.filled()) {
            return is_preface;
        }
        let read = poll_fn(|context| client.socket.poll_read(context, buffers.client.spare()));
        match client.in_time(read).await {
            Ok(count) if count > 0 => buffers.client.advance(count),
            // The next read returns the same result and handles it.
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
        assert!(state_of(set_up) <= 384, "{} bytes", state_of(set_up));
    }
}
