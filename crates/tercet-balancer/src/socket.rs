//! A connection with a polling interface: TCP, TLS, a Unix socket, or a stream of an HTTP/2 connection.
//!
//! Every method takes `&self`: both directions of an exchange run in one task and share the socket between polls,
//! never within one.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use tokio::io::{AsyncRead as _, AsyncWrite as _, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::clock::TICK;
use crate::pipe::Pipe;

/// A connected socket.
#[derive(Debug)]
pub(crate) struct Socket(RefCell<Stream>);

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
    /// One stream of an HTTP/2 connection.
    Pipe {
        pipe: Pipe,
        is_tls: bool,
    },
}

impl Socket {
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self(RefCell::new(Stream::Plain(stream)))
    }

    /// Connects to a server at an IP address.
    ///
    /// # Errors
    /// The connection is refused, or local resources are exhausted.
    pub(crate) async fn connect_tcp(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        // A failure only costs latency (Nagle's algorithm).
        let _ = stream.set_nodelay(true);
        Ok(Self::plain(stream))
    }

    /// Connects to a server on a Unix socket.
    ///
    /// # Errors
    /// As [`connect_tcp`](Self::connect_tcp).
    pub(crate) async fn connect_unix(path: &Path) -> io::Result<Self> {
        loop {
            match UnixStream::connect(path).await {
                // Its queue of connections is full. Over TCP the kernel would try again.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(TICK).await,
                connected => return Ok(Self(RefCell::new(Stream::Unix(connected?)))),
            }
        }
    }

    /// The address of the other end of a connection by TCP.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match &*self.0.borrow() {
            Stream::Plain(stream) => stream.peer_addr().ok(),
            Stream::Unix(_) | Stream::Tls(_) | Stream::Pipe { .. } => None,
        }
    }

    pub(crate) fn tls(stream: Box<TlsStream<TcpStream>>) -> Self {
        Self(RefCell::new(Stream::Tls(stream)))
    }

    /// A stream of an HTTP/2 connection, which itself is under TLS or not.
    pub(crate) fn pipe(pipe: Pipe, is_tls: bool) -> Self {
        Self(RefCell::new(Stream::Pipe { pipe, is_tls }))
    }

    /// Whether bytes on the wire are encrypted.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(&*self.0.borrow(), Stream::Tls(_) | Stream::Pipe { is_tls: true, .. })
    }

    /// Whether ALPN selected HTTP/2; `None` without TLS.
    pub(crate) fn alpn_selected_http2(&self) -> Option<bool> {
        match &*self.0.borrow() {
            Stream::Tls(stream) => Some(stream.get_ref().1.alpn_protocol() == Some(b"h2")),
            Stream::Plain(_) | Stream::Unix(_) | Stream::Pipe { .. } => None,
        }
    }

    /// Whether it is a stream of an HTTP/2 connection.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(&*self.0.borrow(), Stream::Pipe { .. })
    }

    /// Reads into `target`; 0 is the end of the stream.
    pub(crate) fn poll_read(&self, context: &mut Context<'_>, target: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut target = ReadBuf::new(target);
        // Tokio's poll_read takes a short read as a sign that the socket is empty, which saves another system call.
        ready!(match &mut *self.0.borrow_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, &mut target),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, &mut target),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, &mut target),
            Stream::Pipe { pipe, .. } => return pipe.poll_read(context, target.initialize_unfilled()),
        })?;
        Poll::Ready(Ok(target.filled().len()))
    }

    /// Writes some of `bytes`.
    pub(crate) fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self.0.borrow_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Pipe { pipe, .. } => pipe.poll_write(context, bytes),
        }
    }

    /// Whether [`poll_send_file`](Self::poll_send_file) can send files: bytes leave as they are.
    pub(crate) fn sends_files(&self) -> bool {
        matches!(&*self.0.borrow(), Stream::Plain(_))
    }

    /// Writes some of the `count` bytes at `offset` of a file, which are not copied to this process (sendfile(2)). 0: the file has no
    /// more.
    ///
    /// # Errors
    /// As [`poll_write`](Self::poll_write), or reading failed. `Unsupported` if the socket cannot send files.
    pub(crate) fn poll_send_file(
        &self,
        context: &mut Context<'_>,
        file: &File,
        offset: u64,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        let stream = self.0.borrow();
        let Stream::Plain(stream) = &*stream else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        loop {
            ready!(stream.poll_write_ready(context))?;
            let sent = stream.try_io(Interest::WRITABLE, || {
                Ok(rustix::fs::sendfile(stream, file, Some(&mut { offset }), count)?)
            });
            if !would_block(&sent) {
                return Poll::Ready(sent);
            }
        }
    }

    /// Flushes buffered TLS records; other sockets do not buffer.
    pub(crate) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.0.borrow_mut() {
            Stream::Plain(_) | Stream::Unix(_) | Stream::Pipe { .. } => Poll::Ready(Ok(())),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    /// Ends the writing direction, with a close_notify under TLS.
    pub(crate) fn poll_shutdown(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.0.borrow_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Pipe { pipe, .. } => {
                pipe.end();
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Whether the connection is open and no unsolicited bytes have arrived, so that it can be reused. Needs no system
    /// call unless an event has arrived.
    pub(crate) fn is_idle(&self) -> bool {
        match &mut *self.0.borrow_mut() {
            Stream::Plain(stream) => would_block(&stream.try_read(&mut [0])),
            Stream::Unix(stream) => would_block(&stream.try_read(&mut [0])),
            Stream::Tls(_) | Stream::Pipe { .. } => false,
        }
    }

    /// As [`is_idle`](Self::is_idle), but asks the kernel, and so sees events that the runtime has not delivered yet.
    pub(crate) fn is_idle_in_kernel(&self) -> bool {
        let stream = self.0.borrow();
        let descriptor = match &*stream {
            Stream::Plain(stream) => stream.as_fd(),
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tls(_) | Stream::Pipe { .. } => return false,
        };
        let peeked = rustix::net::recv(descriptor, &mut [0], rustix::net::RecvFlags::PEEK);
        would_block(&peeked.map(|(_, received)| received).map_err(io::Error::from))
    }
}

/// Whether connecting failed for want of local resources: descriptors, memory, ports. Such an error says nothing about
/// the remote end.
pub(crate) fn is_out_of_resources(error: &io::Error) -> bool {
    is_out_of_ports(error)
        || [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
            .iter()
            .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Whether all local ports towards one address are in use.
pub(crate) fn is_out_of_ports(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::ADDRNOTAVAIL.raw_os_error())
}

fn would_block(read: &io::Result<usize>) -> bool {
    matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}
