//! A client: its socket, its deadline, and its address.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::bind_address::BindAddress;
use crate::buffer::Buffer;
use crate::clock::Deadline;
use crate::http1::{Version, write};
use crate::socket::Socket;

/// The response timeout for a half-closed client: most of them have disconnected.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(5);

/// What happens to the client's connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// It is kept for the next request.
    Keep,
    /// It is closed after the client could read the response (lingering close).
    Close,
    /// It is closed at once: the client has disconnected, or has to notice that its response is incomplete.
    Abort,
}

/// A connected client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) socket: Socket,
    pub(crate) deadline: Deadline,
    /// The peer's address, or the source address of the PROXY header.
    pub(crate) address: IpAddr,
    /// The bind address it connected to.
    pub(crate) bind_address: Arc<BindAddress>,
    ended: Cell<bool>,
    /// Whether bytes of a response were written since this was last reset.
    has_written: Cell<bool>,
}

impl Client {
    pub(crate) fn new(
        socket: Socket,
        deadline: Deadline,
        address: IpAddr,
        bind_address: Arc<BindAddress>,
    ) -> Self {
        let (ended, has_written) = (Cell::new(false), Cell::new(false));
        Self { socket, deadline, address, bind_address, ended, has_written }
    }

    /// Runs an operation until the deadline; see [`Deadline::in_time`].
    ///
    /// # Errors
    /// The operation's error, or `TimedOut`.
    pub(crate) async fn in_time<T>(&self, operation: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        self.deadline.in_time(operation).await
    }

    /// Writes all of `bytes`. Each write that makes progress sets the deadline to `timeout`; the caller has to watch
    /// it.
    ///
    /// # Errors
    /// Writing failed.
    pub(crate) async fn write_all(&self, mut bytes: &[u8], timeout: Duration) -> io::Result<()> {
        self.has_written.set(true);
        while !bytes.is_empty() {
            self.deadline.set(timeout);
            let count = poll_fn(|context| self.socket.poll_write(context, bytes)).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[count..];
        }
        poll_fn(|context| self.socket.poll_flush(context)).await
    }

    /// Reads what the client sends while it waits for a response, as far as it fits into the buffer: a pipelined
    /// request, or the end of the stream. Registers for a disconnect as well.
    ///
    /// # Errors
    /// The connection failed. A half-closed client still gets its response.
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

    /// Appends `Strict-Transport-Security` if its listener has it and the connection is encrypted.
    pub(crate) fn push_transport_security(&self, output: &mut Vec<u8>) {
        if let Some(age) = self.bind_address.listen.hsts.filter(|_| self.socket.is_tls()) {
            let value = format!("max-age={}", age.as_secs());
            write::push_line(output, b"Strict-Transport-Security", value.as_bytes());
        }
    }

    /// The HTTP version for the access log, given that of the HTTP/1 head.
    pub(crate) fn logged_version(&self, version: Version) -> &'static str {
        match version {
            _ if self.socket.is_stream() => "HTTP/2.0",
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
        }
    }

    /// The timeout for a server's response to this client: `timeout`, or less if the client has half-closed.
    pub(crate) fn response_timeout(&self, timeout: Duration) -> Duration {
        if self.has_ended() { timeout.min(HALF_CLOSED_TIMEOUT) } else { timeout }
    }

    /// Whether bytes of a response were written since the last call.
    pub(crate) fn take_has_written(&self) -> bool {
        self.has_written.replace(false)
    }

    /// Whether the client has half-closed the connection.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.get()
    }
}
