//! Receives the rest of a request's body from the client, at most one buffer of it at a time.

use std::task::{Context, Poll, ready};

use super::progress::Progress;
use crate::buffer::{Buffer, LARGE};
use crate::client::Client;
use crate::config::Timeouts;
use crate::http1::body::LOOK_AHEAD;
use crate::http1::{Decoder, Refusal};
use crate::request_buffers::BufferPool;

/// Receives one body.
pub(super) struct Receipt<'a> {
    pub(super) client: &'a Client,
    pub(super) timeouts: &'a Timeouts,
    pub(super) buffer_pool: &'a BufferPool,
    pub(super) progress: &'a Progress,
    /// First the decoded bytes, which may be sent, then those that are not decoded yet.
    pub(super) body: &'a mut Buffer,
    pub(super) decoder: &'a mut Decoder,
}

/// Why the body is not received completely.
#[derive(Debug)]
pub(super) enum ReceiptFailure {
    /// The client disconnected.
    ClientGone,
    /// The body is malformed or too long.
    Refused(Refusal),
}

impl Receipt<'_> {
    /// Ready when bytes were received, with the number of decoded ones at the front of `body`. All that were decoded before must
    /// be consumed. While it is pending, the client's deadline is that of its next bytes.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<usize, ReceiptFailure>> {
        if self.body.capacity() < LARGE {
            self.buffer_pool.enlarge(self.body, LOOK_AHEAD);
        }
        if !self.body.ensure_spare(LARGE) {
            let reason = "a chunk line is longer than allowed";
            return Poll::Ready(Err(ReceiptFailure::Refused(Refusal { status: 400, reason })));
        }
        if !self.progress.reading_from_client.replace(true) {
            self.client.deadline.set(*self.timeouts.body);
        }
        match ready!(self.client.socket.poll_read(context, self.body.spare())) {
            Ok(0) | Err(_) => return Poll::Ready(Err(ReceiptFailure::ClientGone)),
            Ok(count) => self.body.advance(count),
        }
        self.progress.reading_from_client.set(false);
        let decoded = self.decoder.advance(self.body.filled()).map_err(ReceiptFailure::Refused)?;
        Poll::Ready(Ok(decoded.consumed))
    }
}
