//! A filter between socket and hyper: validates request heads, and replaces a malformed one by a placeholder request
//! that is answered with the reason.
//!
//! So the error response comes after the responses to earlier requests, and is counted and logged like them.

use std::cell::{Cell, RefCell};
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::head::{self, Body, Rejection};

/// The method of the placeholder for a rejected request, the last one on its connection.
pub(super) const REJECTED: &str = "REJECTED";
const PLACEHOLDER: &[u8] = b"REJECTED / HTTP/1.1\r\nconnection: close\r\n\r\n";

/// The idle timeout of a connection, and the timeout for a complete head.
const TIMEOUT: Duration = Duration::from_secs(75);
/// The size of a read.
const READ_BYTES: usize = 8 << 10;

/// State shared between the stream and the request handlers of a connection.
#[derive(Debug, Default)]
pub(super) struct ConnectionState {
    /// Requests in flight.
    in_flight: Cell<usize>,
    /// Why the last request was rejected.
    pub(super) rejection: RefCell<Option<Rejection>>,
}

/// In-flight guard: counts one request of the connection; decremented on drop.
#[derive(Debug)]
pub(super) struct InFlight<'a>(&'a Cell<usize>);

impl ConnectionState {
    /// Counts a request as in flight.
    pub(super) fn in_flight(&self) -> InFlight<'_> {
        self.in_flight.set(self.in_flight.get() + 1);
        InFlight(&self.in_flight)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// What the client sends next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// A request head: bytes searched for its end, and bytes available at the last parse.
    Head { searched: usize, parsed: usize },
    /// The remaining bytes of a body.
    Body(u64),
    /// A part of a chunked body.
    Chunk(Chunk),
    /// A malformed chunk: passed on for hyper to reject when the body is read.
    Unknown,
    /// Discarded: the connection has its last request.
    Rejected,
}

/// The position in a chunked body (RFC 9112 section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size(u64),
    /// The rest of the line after the size.
    Extension(u64),
    /// The remaining data with its line end.
    Data(u64),
    /// A trailer line, with its length so far.
    Trailer(usize),
}

const HEAD: Next = Next::Head { searched: 0, parsed: 0 };

/// A stream that passes only validated heads on.
#[derive(Debug)]
pub(super) struct HeadFilter<S> {
    stream: S,
    state: Rc<ConnectionState>,
    next: Next,
    /// Input that is not validated yet.
    input: BytesMut,
    /// Validated input that hyper can read.
    output: BytesMut,
    timer: Option<Pin<Box<Sleep>>>,
    /// The time of the last read or write.
    active: Instant,
    /// When the head being received started.
    head_started: Option<Instant>,
}

impl<S> HeadFilter<S> {
    pub(super) fn new(stream: S, state: Rc<ConnectionState>) -> Self {
        Self {
            stream,
            state,
            next: HEAD,
            input: BytesMut::new(),
            output: BytesMut::new(),
            timer: None,
            active: Instant::now(),
            head_started: None,
        }
    }

    /// Validates the input as far as it is complete.
    fn validate(&mut self) {
        while !self.input.is_empty() {
            let count = match self.next {
                Next::Head { searched, parsed } => {
                    if self.validate_head(searched, parsed) {
                        continue;
                    }
                    return;
                }
                Next::Body(left) => {
                    let count = self.input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    let left = left - count as u64;
                    self.next = if left == 0 { HEAD } else { Next::Body(left) };
                    count
                }
                Next::Chunk(chunk) => {
                    let (count, next) = chunk.follow(&self.input);
                    self.next = next;
                    count
                }
                Next::Unknown => self.input.len(),
                Next::Rejected => return self.input.clear(),
            };
            let bytes = self.input.split_to(count);
            if self.output.is_empty() { self.output = bytes } else { self.output.extend_from_slice(&bytes) }
        }
    }

    /// Validates a head; whether it is complete or rejected.
    fn validate_head(&mut self, searched: usize, parsed: usize) -> bool {
        // not parsed again with every byte; but input that is not HTTP is detected with the first
        let should_parse =
            parsed == 0 || self.input.len() >= 2 * parsed || head::may_have_end(&self.input, searched);
        let read = if should_parse { head::read(&self.input) } else { Ok(None) };
        match read {
            Ok(Some(read)) => {
                let head = self.input.split_to(read.length);
                self.output.extend_from_slice(read.encoded.as_deref().unwrap_or(&head));
                self.head_started = None;
                self.next = match read.body {
                    Body::Length(0) => HEAD,
                    Body::Length(length) => Next::Body(length),
                    Body::Chunked => Next::Chunk(Chunk::Size(0)),
                };
                true
            }
            Ok(None) => {
                let parsed = if should_parse { self.input.len() } else { parsed };
                self.next = Next::Head { searched: self.input.len(), parsed };
                self.head_started.get_or_insert(self.active);
                false
            }
            Err(rejection) => {
                self.reject(rejection);
                true
            }
        }
    }

    fn reject(&mut self, rejection: Rejection) {
        self.state.rejection.replace(Some(rejection));
        self.output.extend_from_slice(PLACEHOLDER);
        self.next = Next::Rejected;
    }

    /// Completes when the client exceeds a timeout.
    fn poll_timeout(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = Instant::now();
            let since = match self.head_started {
                Some(head_started) => head_started,
                None if self.state.in_flight.get() > 0 => now,
                None => self.active,
            };
            let deadline = since + TIMEOUT;
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            ready!(timer.as_mut().poll(context));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

impl Chunk {
    /// How many bytes belong to this position, and what follows.
    fn follow(self, bytes: &[u8]) -> (usize, Next) {
        let Some(&byte) = bytes.first() else { return (0, Next::Chunk(self)) };
        let to = |chunk| (1, Next::Chunk(chunk));
        match self {
            Self::Size(size) => match char::from(byte).to_digit(16) {
                Some(digit) if size >> 56 == 0 => to(Self::Size(size << 4 | u64::from(digit))),
                Some(_) => (bytes.len(), Next::Unknown),
                None => (0, Next::Chunk(Self::Extension(size))),
            },
            Self::Extension(size) => match memchr::memchr(b'\n', bytes) {
                None => (bytes.len(), Next::Chunk(self)),
                Some(end) if size == 0 => (end + 1, Next::Chunk(Self::Trailer(0))),
                // the line end after the data counts as data
                Some(end) => (end + 1, Next::Chunk(Self::Data(size + 2))),
            },
            Self::Data(left) => {
                let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - count as u64;
                (count, Next::Chunk(if left == 0 { Self::Size(0) } else { Self::Data(left) }))
            }
            Self::Trailer(length) => match memchr::memchr(b'\n', bytes) {
                None => (bytes.len(), Next::Chunk(Self::Trailer(length + bytes.len()))),
                // an empty line ends the trailers
                Some(end) if length + end <= 1 => (end + 1, HEAD),
                Some(end) => (end + 1, Next::Chunk(Self::Trailer(0))),
            },
        }
    }
}

impl<S: AsyncRead + Unpin> HeadFilter<S> {
    /// Reads from the socket; an idle connection has no buffer allocated.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = [0; READ_BYTES];
        let mut buffer = ReadBuf::new(&mut buffer);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        if self.input.is_empty() {
            self.input = BytesMut::from(buffer.filled());
        } else {
            self.input.extend_from_slice(buffer.filled());
        }
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for HeadFilter<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if !this.output.is_empty() {
                let count = this.output.len().min(target.remaining());
                target.put_slice(&this.output[..count]);
                this.output.advance(count);
                if this.output.is_empty() {
                    this.output = BytesMut::new();
                }
                return Poll::Ready(Ok(()));
            }
            if this.next == Next::Rejected {
                // the response to the rejected request closes the connection
                return Poll::Pending;
            }
            match this.poll_fill(context) {
                Poll::Ready(Ok(0)) if !this.input.is_empty() => {
                    let rejection = Rejection::truncated(&this.input);
                    this.reject(rejection);
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {
                    this.active = Instant::now();
                    this.validate();
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    if !matches!(this.next, Next::Head { .. }) {
                        return Poll::Pending;
                    }
                    ready!(this.poll_timeout(context));
                    if this.head_started.is_none() {
                        return Poll::Ready(Ok(()));
                    }
                    let rejection = Rejection::timed_out(&this.input);
                    this.reject(rejection);
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for HeadFilter<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(context, bytes));
        this.active = Instant::now();
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write_vectored(context, parts));
        this.active = Instant::now();
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
