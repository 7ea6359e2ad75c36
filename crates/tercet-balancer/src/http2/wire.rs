//! Adapts a client's socket to the I/O traits of `h2`, and passes incoming bytes through a [`Guard`].

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::PREFACE;
use super::guard::{Guard, Notes, Passed};
use crate::client::Client;

/// The error code with which the connection has to be closed, once the guard has detected a violation.
pub(super) type Fault = Rc<Cell<Option<Reason>>>;

/// Reads the bytes in `early`, then from the socket, until there is a fault.
#[derive(Debug)]
pub(super) struct Wire {
    client: Rc<Client>,
    early: Bytes,
    guard: Guard,
    fault: Fault,
    /// The guard's replacement for bytes that were read.
    replacement: Bytes,
}

impl Wire {
    pub(super) fn new(
        client: Rc<Client>,
        early: Bytes,
        fault: Fault,
        head_limit: usize,
        notes: Rc<Notes>,
    ) -> Self {
        let guard = Guard::new(PREFACE.len(), head_limit, notes);
        Self { client, early, guard, fault, replacement: Bytes::new() }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { client, early, guard, fault, replacement } = self.get_mut();
        loop {
            if !replacement.is_empty() {
                let count = replacement.len().min(target.remaining());
                target.put_slice(&replacement.split_to(count));
                return Poll::Ready(Ok(()));
            }
            if fault.get().is_some() {
                // h2 gets no more bytes. The connection's task checks the fault after polling h2.
                return Poll::Pending;
            }
            let spare = target.initialize_unfilled();
            let count = if early.is_empty() {
                ready!(client.socket.poll_read(context, spare))?
            } else {
                let count = early.len().min(spare.len());
                early.copy_to_slice(&mut spare[..count]);
                count
            };
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
            let (passed, reason) = guard.inspect(&spare[..count]);
            fault.set(reason);
            match passed {
                // The guard buffers all of them. Returning no byte would be the end of the stream.
                Passed::Prefix(0) => {}
                Passed::Prefix(count) => {
                    target.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Passed::Instead(bytes) => *replacement = bytes.into(),
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.client.socket.poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.client.socket.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.client.socket.poll_shutdown(context)
    }
}
