//! Sends a request to the server: the head with the part of the body that arrived with it, then the rest of the body
//! as it arrives, at most one buffer of it at a time.

use std::io;
use std::task::{Context, Poll, ready};

use super::progress::Progress;
use crate::buffer::{Buffer, LARGE};
use crate::client::Client;
use crate::config::Timeouts;
use crate::http1::body::LOOK_AHEAD;
use crate::http1::{Decoder, Refusal};
use crate::request_buffers::BufferPool;
use crate::socket::Socket;

/// Sends one request.
pub(super) struct Upload<'a> {
    pub(super) client: &'a Client,
    pub(super) server: &'a Socket,
    pub(super) timeouts: &'a Timeouts,
    pub(super) buffer_pool: &'a BufferPool,
    pub(super) progress: &'a Progress,
    /// The head and the first part of the body.
    pub(super) outgoing: &'a [u8],
    /// The rest of the body: first the decoded bytes, which may be sent, then those that are not decoded yet.
    pub(super) body: &'a mut Buffer,
    pub(super) decoder: &'a mut Decoder,
    /// Bytes of `outgoing` that were written to the server's socket.
    pub(super) written: usize,
    /// Bytes at the front of `body` that may be sent.
    pub(super) ready: usize,
}

/// Why the request was not sent completely.
#[derive(Debug)]
pub(super) enum UploadFailure {
    /// The client disconnected.
    ClientGone,
    /// The client's body is malformed or too long.
    Refused(Refusal),
    /// Writing to the server failed.
    Server,
}

impl Upload<'_> {
    /// Sends as much as possible; ready when the whole request was sent.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), UploadFailure>> {
        loop {
            ready!(self.poll_write(context)).map_err(|_| UploadFailure::Server)?;
            if self.decoder.is_done() {
                return Poll::Ready(Ok(()));
            }
            if self.body.capacity() < LARGE {
                self.buffer_pool.enlarge(self.body, LOOK_AHEAD);
            }
            if !self.body.ensure_spare(LARGE) {
                let reason = "a chunk line is longer than allowed";
                return Poll::Ready(Err(UploadFailure::Refused(Refusal { status: 400, reason })));
            }
            if !self.progress.reading_from_client.replace(true) {
                self.client.deadline.set(*self.timeouts.body);
            }
            match ready!(self.client.socket.poll_read(context, self.body.spare())) {
                Ok(0) | Err(_) => return Poll::Ready(Err(UploadFailure::ClientGone)),
                Ok(count) => self.body.advance(count),
            }
            self.progress.reading_from_client.set(false);
            self.client.deadline.set(*self.timeouts.response);
            // Streamed parts of the body are not kept, so the request cannot be sent a second time.
            self.progress.is_buffered.set(false);
            let decoded = self.decoder.advance(self.body.filled()).map_err(UploadFailure::Refused)?;
            self.ready = decoded.consumed;
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.outgoing.len() {
            self.written += ready!(self.server.poll_write(context, &self.outgoing[self.written..]))?;
            self.progress.accepted.set(true);
        }
        while self.ready > 0 {
            let count = ready!(self.server.poll_write(context, &self.body.filled()[..self.ready]))?;
            self.body.consume(count);
            self.ready -= count;
        }
        Poll::Ready(Ok(()))
    }
}
