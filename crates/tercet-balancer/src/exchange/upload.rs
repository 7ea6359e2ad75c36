//! Sends a request to the server: the head with the first part of the body, then what is in a file, or else the rest of the
//! body as it arrives.

use std::io;
use std::task::{Context, Poll, ready};

use super::buffering::Spooled;
use super::receipt::{Receipt, ReceiptFailure};
use crate::http1::Refusal;
use crate::socket::Socket;

/// Sends one request.
pub(super) struct Upload<'a> {
    pub(super) server: &'a Socket,
    /// What is not sent yet of the head and the first part of the body.
    pub(super) outgoing: &'a [u8],
    /// The next part, if it is in a file.
    pub(super) spooled: Option<Box<Spooled<'a>>>,
    /// The rest of the body.
    pub(super) receipt: Receipt<'a>,
    /// Bytes at the front of the receipt's body that may be sent.
    pub(super) ready: usize,
}

/// Why the request was not sent completely.
#[derive(Debug)]
pub(super) enum UploadFailure {
    /// The client disconnected.
    ClientGone,
    /// The client's body is malformed or too long.
    Refused(Refusal),
    /// The buffered body cannot be read.
    Unreadable(io::Error),
    /// Writing to the server failed.
    Server,
}

impl From<ReceiptFailure> for UploadFailure {
    fn from(failure: ReceiptFailure) -> Self {
        match failure {
            ReceiptFailure::ClientGone => Self::ClientGone,
            ReceiptFailure::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

impl Upload<'_> {
    /// Sends as much as possible; ready when the whole request was sent.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), UploadFailure>> {
        loop {
            ready!(self.poll_write(context))?;
            if self.receipt.decoder.is_done() {
                return Poll::Ready(Ok(()));
            }
            self.ready = ready!(self.receipt.poll(context))?;
            self.receipt.client.deadline.set(*self.receipt.timeouts.response);
            // Streamed parts of the body are not kept, so the request cannot be sent a second time.
            self.receipt.progress.is_buffered.set(false);
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), UploadFailure>> {
        let server = |_| UploadFailure::Server;
        while !self.outgoing.is_empty() {
            let count = ready!(self.server.poll_write(context, self.outgoing)).map_err(server)?;
            self.outgoing = &self.outgoing[count..];
            self.receipt.progress.accepted.set(true);
        }
        if let Some(spooled) = &mut self.spooled {
            while let Some(piece) =
                spooled.next(self.receipt.buffer_pool).map_err(UploadFailure::Unreadable)?
            {
                let count = ready!(self.server.poll_write(context, piece.filled())).map_err(server)?;
                piece.consume(count);
                self.receipt.client.deadline.set(*self.receipt.timeouts.response);
            }
        }
        while self.ready > 0 {
            let decoded = &self.receipt.body.filled()[..self.ready];
            let count = ready!(self.server.poll_write(context, decoded)).map_err(server)?;
            self.receipt.body.consume(count);
            self.ready -= count;
        }
        Poll::Ready(Ok(()))
    }
}
