//! A worker's connection pool: its idle connections to servers.
//!
//! Each worker has its own pool, so no lock is needed. A connection is only returned to it after a complete
//! response. The server may close an idle connection at any moment, so its next request may fail.

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
    /// The most recently used one is last and taken first: it is the likeliest to be still open.
    idle: Vec<Idle>,
}

#[derive(Debug)]
struct Idle {
    socket: Socket,
    since: Instant,
}

impl Pool {
    /// An idle connection to `server` that is still open. With `ask_kernel` a close event that the runtime has not
    /// delivered yet is also detected: for requests that cannot be retried.
    pub(crate) fn take(&self, server: &Arc<Server>, ask_kernel: bool) -> Option<Socket> {
        let mut servers = self.0.borrow_mut();
        let of_server = servers.iter_mut().find(|of_server| Arc::ptr_eq(&of_server.server, server))?;
        while let Some(Idle { socket, .. }) = of_server.idle.pop() {
            if socket.is_idle()
                && server.upstream.leads_to(|| socket.peer())
                && (!ask_kernel || socket.is_idle_in_kernel())
            {
                return Some(socket);
            }
        }
        None
    }

    /// Returns a connection to the pool after a complete response; `now` is when it became idle.
    pub(crate) fn give_back(&self, server: &Arc<Server>, socket: Socket, now: Instant) {
        if !server.upstream.leads_to(|| socket.peer()) {
            return;
        }
        let idle = Idle { socket, since: now };
        let mut servers = self.0.borrow_mut();
        match servers.iter_mut().find(|of_server| Arc::ptr_eq(&of_server.server, server)) {
            Some(of_server) => of_server.idle.push(idle),
            None => servers.push(IdleConnections { server: Arc::clone(server), idle: vec![idle] }),
        }
    }

    /// Closes all connections.
    pub(crate) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// Closes connections that were idle for `timeout`, that their servers have closed, or whose servers are not
    /// available.
    pub(crate) fn sweep(&self, timeout: Duration, now: Instant) {
        let mut servers = self.0.borrow_mut();
        for of_server in servers.iter_mut() {
            if of_server.server.is_available() {
                of_server.idle.retain(|idle| now - idle.since < timeout && idle.socket.is_idle());
            } else {
                of_server.idle.clear();
            }
        }
        servers.retain(|of_server| !of_server.idle.is_empty());
    }
}
