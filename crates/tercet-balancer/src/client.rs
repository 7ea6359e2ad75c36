//! The client's side of a connection: its socket, its deadline, and who it is.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::bind_address::BindAddress;
use crate::buffer::Buffer;
use crate::clock::Watch;
use crate::http1::Version;
use crate::socket::Socket;

/// How long a client that has ended its direction is given more of an answer: most that do have gone, and what their
/// requests cost is to end with them.
const HALF_CLOSED: Duration = Duration::from_secs(5);

/// What becomes of the client's connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// It takes the next request.
    Keep,
    /// It is closed, after the client had a chance to read the answer.
    Close,
    /// It is closed at once: the client is gone, or must notice that its answer is not whole.
    Abort,
}

/// A connected client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) socket: Socket,
    pub(crate) watch: Watch,
    /// Who it is: the peer's address, or the one a PROXY header gave.
    pub(crate) address: IpAddr,
    /// Where it came in.
    pub(crate) bind_address: Arc<BindAddress>,
    ended: Cell<bool>,
    /// Whether it was told something since its request came.
    told: Cell<bool>,
}

impl Client {
    pub(crate) fn new(socket: Socket, watch: Watch, address: IpAddr, bind_address: Arc<BindAddress>) -> Self {
        Self { socket, watch, address, bind_address, ended: Cell::new(false), told: Cell::new(false) }
    }

    /// Does something before the deadline; see [`Watch::in_time`].
    ///
    /// # Errors
    /// What it fails with, or the time is over.
    pub(crate) async fn in_time<T>(&self, doing: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        self.watch.in_time(doing).await
    }

    /// Writes all of `bytes`. Each time the client has taken some it has `patience` for more; whoever awaits this
    /// watches that deadline.
    pub(crate) async fn write_all(&self, mut bytes: &[u8], patience: Duration) -> io::Result<()> {
        self.told.set(true);
        while !bytes.is_empty() {
            self.watch.set(patience);
            let count = poll_fn(|context| self.socket.poll_write(context, bytes)).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[count..];
        }
        poll_fn(|context| self.socket.poll_flush(context)).await
    }

    /// Takes what the client sends while it waits for an answer, as far as the buffer has room: a request
    /// that is pipelined behind, or the end. Also registers for its breaking off.
    ///
    /// # Errors
    /// The connection broke. A client that only ended its own direction still gets its answer.
    pub(crate) fn read_ahead(&self, context: &mut Context<'_>, buffer: &mut Buffer) -> io::Result<()> {
        while !self.ended.get() && !buffer.spare().is_empty() {
            match self.socket.poll_read(context, buffer.spare()) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => self.ended.set(true),
                Poll::Ready(Ok(count)) => buffer.advance(count),
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// What the log calls the version of a request that reads like this one.
    pub(crate) fn spoken(&self, version: Version) -> &'static str {
        match version {
            _ if self.socket.is_stream() => "HTTP/2.0",
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }

    /// How long a server is waited for on its behalf, given how long it would be for anybody.
    pub(crate) fn patience(&self, usual: Duration) -> Duration {
        if self.has_ended() { usual.min(HALF_CLOSED) } else { usual }
    }

    /// Whether it was told something since this was asked last.
    pub(crate) fn take_told(&self) -> bool {
        self.told.replace(false)
    }

    /// Whether the client has ended its direction.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.get()
    }
}
