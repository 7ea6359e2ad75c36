//! The TCP user timeout: how long sent data may stay unacknowledged before the kernel closes the connection.
//!
//! A server that runs a statement does not read, so it acknowledges no more than its receive buffer holds. By
//! `TCP_USER_TIMEOUT` (tcp(7)), Linux does not distinguish such a server from an unreachable one. So the timeout is
//! longer while more data than that is in flight.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::stream::Stream;

/// The time and interval of TCP keepalive probes on an idle connection: the minimum of Linux.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// The bytes that a server's receive buffer always holds: half of the initial size on Linux (`tcp_rmem`).
const HELD: usize = 32 * 1024;

/// The minimum timeout while the server's receive buffer may be full.
const LONG: Duration = Duration::from_secs(30);

/// Makes the kernel close a connection whose peer acknowledges neither data nor keepalive probes for `limit`. A slow
/// server still acknowledges both.
pub(crate) fn set(stream: &TcpStream, limit: Option<Duration>) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
    socket.set_tcp_user_timeout(limit)
}

/// Sets a longer timeout while the server may have unread data.
#[derive(Debug)]
pub(crate) struct UserTimeout {
    limit: Option<Duration>,
    is_long: bool,
}

impl UserTimeout {
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { limit, is_long: false }
    }

    /// Adjusts the timeout to `unanswered`, the bytes of all exchanges without a complete result.
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
