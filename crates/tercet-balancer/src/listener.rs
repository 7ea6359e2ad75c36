//! Listening sockets: how they are bound, and taking connections off them.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket as RawSocket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::door;
use crate::worker::Worker;

/// Connections that may wait in the kernel to be accepted; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// How long accepting pauses when there are no descriptors left.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(50);

/// Binds `count` sockets to the same address, among which the kernel spreads connections (SO_REUSEPORT). With
/// port 0 the first one's port is used for all.
///
/// # Errors
/// The address is taken, or may not be used.
pub(crate) fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<StdListener>> {
    if address.port() != 0 {
        // With SO_REUSEPORT alone another balancer of the same user would share the address unnoticed.
        drop(new_socket(address, false)?);
    }
    let mut address = address;
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = new_socket(address, true)?;
        socket.listen(BACKLOG)?;
        let listener = StdListener::from(socket);
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn new_socket(address: SocketAddr, shared: bool) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Accepts connections at the door of this configured address until `stop`, each served by a task of its own.
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
    let Some(door) = worker.shared.doors.load().at(address) else { return };
    let Some(entered) = worker.enter(peer) else { return };
    // Without it the last part of an answer may wait for an acknowledgement; nothing else depends on it.
    let _ = stream.set_nodelay(true);
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let _entered = entered;
        door::enter(worker, door, stream, peer).await;
    });
}
