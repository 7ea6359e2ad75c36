//! Request buffering: the whole body of a request is received before a server is selected for it, so that a slow client
//! holds no server. A program that serves one request at a time needs that.
//!
//! A body that is not small is in a temporary file without a name, so memory does not grow with it; like static files it
//! is written and read on the event loop.

use std::fs::File;
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::task::Poll;

use tercet_observe::event::BalancerEvent;

use super::Exchange;
use super::failure::Failure;
use super::receipt::{Receipt, ReceiptFailure};
use crate::buffer::{Buffer, LARGE, SMALL, TINY};
use crate::request_buffers::{BufferPool, RequestBuffers};

/// The most bytes of a request, with its head, that are kept in memory.
const IN_MEMORY: usize = SMALL;

/// The part of a body that is in a file.
#[derive(Debug)]
pub(super) struct Spool {
    file: File,
    /// Bytes in it.
    length: u64,
}

impl Spool {
    fn append(spool: &mut Option<Box<Self>>, bytes: &[u8]) -> io::Result<()> {
        let spool = match spool {
            Some(spool) => spool,
            none => none.insert(Box::new(Self { file: tempfile::tempfile()?, length: 0 })),
        };
        spool.file.write_all(bytes)?;
        spool.length += bytes.len() as u64;
        Ok(())
    }
}

/// A part of a body that is read from its file.
#[derive(Debug)]
pub(super) struct Spooled<'a> {
    spool: &'a Spool,
    /// Bytes that were read.
    read: u64,
    /// Those of them that are not sent yet.
    piece: Buffer,
}

impl<'a> Spooled<'a> {
    pub(super) fn new(spool: &'a Spool) -> Self {
        Self { spool, read: 0, piece: Buffer::empty() }
    }

    /// The next bytes, which the caller consumes; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn next(&mut self, pool: &BufferPool) -> io::Result<Option<&mut Buffer>> {
        let left = self.spool.length - self.read;
        if self.piece.is_empty() {
            if left == 0 {
                return Ok(None);
            }
            if self.piece.capacity() < LARGE {
                pool.enlarge(&mut self.piece, TINY);
            }
            let spare = self.piece.spare();
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(spare.len());
            self.spool.file.read_exact_at(&mut spare[..wanted], self.read)?;
            self.piece.advance(wanted);
            self.read += wanted as u64;
        }
        Ok(Some(&mut self.piece))
    }
}

impl Exchange<'_> {
    /// Receives the rest of the body: into `buffers.request`, and beyond a small size into a file.
    pub(super) async fn buffer_request(&mut self, buffers: &mut RequestBuffers) -> Result<(), Failure> {
        if self.decoder.is_done() {
            return Ok(());
        }
        if self.head.expect_continue {
            // The server does not see the expectation (RFC 9110 section 10.1.1).
            let writing = self.client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n", *self.config.timeouts.send);
            self.client.in_time(writing).await.map_err(|_| Failure::ClientGone)?;
        }
        let mut receipt = Receipt {
            client: self.client,
            timeouts: &self.config.timeouts,
            buffer_pool: &self.worker.buffer_pool,
            progress: &self.progress,
            body: &mut buffers.body,
            decoder: &mut self.decoder,
        };
        while !receipt.decoder.is_done() {
            let decoded = poll_fn(|context| match receipt.poll(context) {
                Poll::Pending if receipt.client.deadline.expired(context) => {
                    Poll::Ready(Err(Failure::ClientTimeout))
                }
                received => received.map_err(|failure| match failure {
                    ReceiptFailure::ClientGone => Failure::ClientGone,
                    ReceiptFailure::Refused(refusal) => Failure::ClientRefused(refusal),
                }),
            })
            .await?;
            let bytes = &receipt.body.filled()[..decoded];
            if self.spool.is_none() && buffers.request.len() + decoded <= IN_MEMORY {
                buffers.request.extend_from_slice(bytes);
            } else {
                Spool::append(&mut self.spool, bytes).map_err(Failure::NotBuffered)?;
            }
            receipt.body.consume(decoded);
        }
        Ok(())
    }

    /// Logs why a request is not buffered, which the client is not told.
    pub(super) fn log_not_buffered(&self, error: &io::Error) {
        let (client, reason) = (self.client.address.to_string(), error.to_string());
        let event = BalancerEvent::RequestNotBuffered { client: &client, reason: &reason };
        self.worker.shared.events.event(event);
    }
}
