//! How long a server may acknowledge nothing before the kernel gives the connection up.
//!
//! A server that runs a statement reads nothing, and takes no more than its buffers hold. Linux does not tell such a
//! server from one that is out of reach (`TCP_USER_TIMEOUT`, tcp(7)), so while more than that is on the way it waits longer.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::stream::Stream;

/// How long an idle connection's peer may say nothing before it is asked whether it is there, and again: the least that
/// Linux knows.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// What a server's buffers hold in any case, in bytes: half of what Linux gives a connection to begin with (`tcp_rmem`).
const HELD: usize = 32 * 1024;

/// How long a server may acknowledge nothing while its buffers may be full.
const LONG: Duration = Duration::from_secs(30);

/// Has the kernel end a connection whose peer acknowledges nothing for `limit`: neither data nor the question whether it
/// is there. A server that is slow acknowledges all the same.
pub(super) fn set(stream: &TcpStream, limit: Option<Duration>) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
    socket.set_tcp_user_timeout(limit)
}

/// Notes what a server may not have read yet.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Option<Duration>,
    /// Bytes that were sent since nothing was waited for.
    unread: usize,
}

impl Patience {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self { limit, unread: 0 }
    }

    /// So many more bytes have been sent.
    pub(super) fn sent(&mut self, stream: &Stream, bytes: usize) -> io::Result<()> {
        let was_held = self.unread <= HELD;
        self.unread += bytes;
        if was_held && self.unread > HELD { self.wait(stream, LONG) } else { Ok(()) }
    }

    /// All that was sent has been answered.
    pub(super) fn answered(&mut self, stream: &Stream) -> io::Result<()> {
        let was_held = std::mem::take(&mut self.unread) <= HELD;
        if was_held { Ok(()) } else { self.wait(stream, Duration::ZERO) }
    }

    /// For the limit, or for as long as this if it is longer.
    fn wait(&self, stream: &Stream, at_least: Duration) -> io::Result<()> {
        match (stream.tcp(), self.limit) {
            (Some(stream), Some(limit)) => {
                SockRef::from(stream).set_tcp_user_timeout(Some(limit.max(at_least)))
            }
            _ => Ok(()),
        }
    }
}
