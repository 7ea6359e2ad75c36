//! How long a server may acknowledge nothing before the kernel gives the connection up.
//!
//! A server that runs a statement reads nothing, and takes no more than its buffers hold. Linux does not tell such a
//! server from one that is out of reach (`TCP_USER_TIMEOUT`, tcp(7)), so while more than that is on the way it waits longer.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::stream::Stream;

/// How long an idle connection's peer may say nothing before it is asked whether it is there, and again: the least that
/// Linux knows.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// What a server's buffers hold in any case, in bytes: half of what Linux gives a connection to begin with (`tcp_rmem`).
const HELD: usize = 32 * 1024;

/// How long a server may acknowledge nothing while its buffers may be full.
const LONG: Duration = Duration::from_secs(30);

/// Has the kernel end a connection whose peer acknowledges nothing for `limit`: neither data nor the question whether it
/// is there. A server that is slow acknowledges all the same.
pub(crate) fn set(stream: &TcpStream, limit: Option<Duration>) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
    socket.set_tcp_user_timeout(limit)
}

/// Waits longer while a server may not have read what was sent to it.
#[derive(Debug)]
pub(crate) struct UserTimeout {
    limit: Option<Duration>,
    is_long: bool,
}

impl UserTimeout {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { limit, is_long: false }
    }

    /// So many bytes are on their way, or wait for an answer.
    pub(crate) fn adjust(&mut self, stream: &Stream, unanswered: usize) -> io::Result<()> {
        let is_long = unanswered > HELD;
        if is_long != std::mem::replace(&mut self.is_long, is_long)
            && let (Some(stream), Some(limit)) = (stream.tcp(), self.limit)
        {
            let limit = if is_long { limit.max(LONG) } else { limit };
            SockRef::from(stream).set_tcp_user_timeout(Some(limit))?;
        }
        Ok(())
    }
}
