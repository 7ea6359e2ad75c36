//! A connection as hyper gets it: heads are read before hyper sees them, and what is none reaches hyper as a request that is answered
//! with the reason.
//!
//! So an answer to it comes after those to requests before it, and is written, counted and logged like all others.

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

use super::head::{self, Body, Refusal};

/// The method of the request that stands for what was refused; the last one of its connection.
pub(super) const REFUSED: &str = "REFUSED";
const STAND_IN: &[u8] = b"REFUSED / HTTP/1.1\r\nconnection: close\r\n\r\n";

/// How long a connection may be idle, and how long a head may take once it has begun.
const PATIENCE: Duration = Duration::from_secs(75);
/// Bytes that are read at once.
const READ_BYTES: usize = 8 << 10;

/// What a connection and those who answer its requests know of each other.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Requests that are being answered.
    busy: Cell<usize>,
    /// Why the last request is none.
    pub(super) refusal: RefCell<Option<Refusal>>,
}

/// One request that is being answered, for as long as this is held.
#[derive(Debug)]
pub(super) struct Answering<'a>(&'a Cell<usize>);

impl Notes {
    /// Counts a request as being answered.
    pub(super) fn answering(&self) -> Answering<'_> {
        self.busy.set(self.busy.get() + 1);
        Answering(&self.busy)
    }
}

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// What comes next from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// A head, of which so many bytes have been searched for its end and so many were there when it was parsed last.
    Head { searched: usize, parsed: usize },
    /// So many bytes of a body.
    Body(u64),
    /// A chunk's size, digits of which have been read, or trailers.
    Chunk(Chunk),
    /// What is hyper's to refuse: it is part of a body, so somebody reads that.
    Unknown,
    /// Nothing that anybody reads.
    Refused,
}

/// A place between the chunks of a body (RFC 9112 section 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size(u64),
    /// The rest of the line with the size.
    Extension(u64),
    /// The data, and the line's end behind it.
    Data(u64),
    /// A trailer line of so many bytes so far.
    Trailer(usize),
}

const HEAD: Next = Next::Head { searched: 0, parsed: 0 };

/// A stream with its heads read.
#[derive(Debug)]
pub(super) struct Vetted<S> {
    stream: S,
    notes: Rc<Notes>,
    next: Next,
    /// What was read and not looked at.
    input: BytesMut,
    /// What hyper may have.
    output: BytesMut,
    timer: Option<Pin<Box<Sleep>>>,
    /// When a byte came or went last.
    active: Instant,
    /// When the head began that is coming in.
    begun: Option<Instant>,
}

impl<S> Vetted<S> {
    pub(super) fn new(stream: S, notes: Rc<Notes>) -> Self {
        Self {
            stream,
            notes,
            next: HEAD,
            input: BytesMut::new(),
            output: BytesMut::new(),
            timer: None,
            active: Instant::now(),
            begun: None,
        }
    }

    /// Looks at what was read, as far as it goes.
    fn vet(&mut self) {
        while !self.input.is_empty() {
            let passed = match self.next {
                Next::Head { searched, parsed } => {
                    if self.vet_head(searched, parsed) {
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
                Next::Refused => return self.input.clear(),
            };
            let passed = self.input.split_to(passed);
            if self.output.is_empty() { self.output = passed } else { self.output.extend_from_slice(&passed) }
        }
    }

    /// Looks at a head; whether it is done with.
    fn vet_head(&mut self, searched: usize, parsed: usize) -> bool {
        // what a client sends is not parsed again with every byte, but what is no HTTP is found out at once
        let worth =
            parsed == 0 || self.input.len() >= 2 * parsed || head::may_have_end(&self.input, searched);
        let read = if worth { head::read(&self.input) } else { Ok(None) };
        match read {
            Ok(Some(read)) => {
                let head = self.input.split_to(read.length);
                self.output.extend_from_slice(read.encoded.as_deref().unwrap_or(&head));
                self.begun = None;
                self.next = match read.body {
                    Body::Length(0) => HEAD,
                    Body::Length(length) => Next::Body(length),
                    Body::Chunked => Next::Chunk(Chunk::Size(0)),
                };
                true
            }
            Ok(None) => {
                let parsed = if worth { self.input.len() } else { parsed };
                self.next = Next::Head { searched: self.input.len(), parsed };
                self.begun.get_or_insert(self.active);
                false
            }
            Err(refusal) => {
                self.refuse(refusal);
                true
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.notes.refusal.replace(Some(refusal));
        self.output.extend_from_slice(STAND_IN);
        self.next = Next::Refused;
    }

    /// Ready when a client has let pass more time than it may.
    fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = Instant::now();
            let since = match self.begun {
                Some(begun) => begun,
                None if self.notes.busy.get() > 0 => now,
                None => self.active,
            };
            let deadline = since + PATIENCE;
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
    /// How many bytes belong to this, and what comes next.
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
                // the line's end behind the data counts as data
                Some(end) => (end + 1, Next::Chunk(Self::Data(size + 2))),
            },
            Self::Data(left) => {
                let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let left = left - count as u64;
                (count, Next::Chunk(if left == 0 { Self::Size(0) } else { Self::Data(left) }))
            }
            Self::Trailer(length) => match memchr::memchr(b'\n', bytes) {
                None => (bytes.len(), Next::Chunk(Self::Trailer(length + bytes.len()))),
                // a line of CR LF alone is the last
                Some(end) if length + end <= 1 => (end + 1, HEAD),
                Some(end) => (end + 1, Next::Chunk(Self::Trailer(0))),
            },
        }
    }
}

impl<S: AsyncRead + Unpin> Vetted<S> {
    /// Reads what there is; an idle connection holds no buffer for it.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut room = [0; READ_BYTES];
        let mut room = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut room))?;
        if self.input.is_empty() {
            self.input = BytesMut::from(room.filled());
        } else {
            self.input.extend_from_slice(room.filled());
        }
        Poll::Ready(Ok(room.filled().len()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Vetted<S> {
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
            if this.next == Next::Refused {
                // hyper has its last request; what it has been told closes the connection
                return Poll::Pending;
            }
            match this.poll_fill(context) {
                Poll::Ready(Ok(0)) if !this.input.is_empty() => {
                    let refusal = Refusal::cut(&this.input);
                    this.refuse(refusal);
                }
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(_)) => {
                    this.active = Instant::now();
                    this.vet();
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    if !matches!(this.next, Next::Head { .. }) {
                        return Poll::Pending;
                    }
                    ready!(this.poll_late(context));
                    if this.begun.is_none() {
                        return Poll::Ready(Ok(()));
                    }
                    let refusal = Refusal::late(&this.input);
                    this.refuse(refusal);
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Vetted<S> {
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
