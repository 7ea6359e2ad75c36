//! A worker's idle connections to servers.
//!
//! Each worker has its own, so taking and giving back costs no lock. A connection is only given back when
//! its last answer ended cleanly; whoever takes one must expect that the server closes it at that moment.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::server::Server;
use crate::socket::Socket;

/// Idle connections by server.
#[derive(Debug, Default)]
pub(crate) struct Pool(RefCell<Vec<IdleConnections>>);

#[derive(Debug)]
struct IdleConnections {
    server: Arc<Server>,
    /// The most recently used last: it is the likeliest to be still open, and the old ones run out.
    idle: Vec<Idle>,
}

#[derive(Debug)]
struct Idle {
    socket: Socket,
    since: Instant,
}

impl Pool {
    /// An idle connection to `server` that is still open. With `certain` the kernel is asked, because the
    /// request could not be sent a second time if the server had just closed.
    pub(crate) fn take(&self, server: &Arc<Server>, certain: bool) -> Option<Socket> {
        let mut servers = self.0.borrow_mut();
        let of_server = servers.iter_mut().find(|of_server| Arc::ptr_eq(&of_server.server, server))?;
        while let Some(Idle { socket, .. }) = of_server.idle.pop() {
            if socket.is_quiet() && (!certain || socket.is_quiet_now()) {
                return Some(socket);
            }
        }
        None
    }

    /// Keeps a connection whose last answer is complete; `now` is when it became idle.
    pub(crate) fn give_back(&self, server: &Arc<Server>, socket: Socket, now: Instant) {
        let idle = Idle { socket, since: now };
        let mut servers = self.0.borrow_mut();
        match servers.iter_mut().find(|of_server| Arc::ptr_eq(&of_server.server, server)) {
            Some(of_server) => of_server.idle.push(idle),
            None => servers.push(IdleConnections { server: Arc::clone(server), idle: vec![idle] }),
        }
    }

    /// Closes everything, when there are no descriptors left.
    pub(crate) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// Closes what has been idle for `timeout`, what servers have closed, and everything to servers that
    /// are not up.
    pub(crate) fn sweep(&self, timeout: Duration, now: Instant) {
        let mut servers = self.0.borrow_mut();
        for of_server in servers.iter_mut() {
            if of_server.server.is_available() {
                of_server.idle.retain(|idle| now - idle.since < timeout && idle.socket.is_quiet());
            } else {
                of_server.idle.clear();
            }
        }
        servers.retain(|of_server| !of_server.idle.is_empty());
    }
}
