//! Listening sockets: how they are bound, and taking connections off them.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::client::Client;
use crate::connection;
use crate::socket::Socket;
use crate::worker::{Worker, client_address};

/// Connections that may wait in the kernel to be accepted; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// How long accepting pauses when there are no descriptors left.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// Binds `count` sockets to the same address, among which the kernel spreads connections (SO_REUSEPORT). With
/// port 0 the first one's port is used for all.
///
/// # Errors
/// The address is taken, or may not be used.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<StdListener>> {
    let mut address = address;
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = StdListener::from(socket);
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Accepts connections until `stop`, each served by a task of its own.
pub(crate) async fn accept(worker: Rc<Worker>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        match accepted {
            Ok((stream, peer)) => begin(&worker, stream, peer),
            // The connection was gone before it was accepted.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => tokio::time::sleep(OUT_OF_DESCRIPTORS).await,
        }
    }
}

fn begin(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    // Without it the last part of an answer may wait for an acknowledgement; nothing else depends on it.
    let _ = stream.set_nodelay(true);
    let client = Client::new(Socket::plain(stream), worker.clock.watch(), client_address(peer));
    let entered = worker.enter();
    worker.shared.metrics.accepted.fetch_add(1, Ordering::Relaxed);
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let _entered = entered;
        connection::serve(worker, client).await;
    });
}
