//! A client's socket as `h2` wants it, with a [`Guard`] over what comes in.

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

/// Why a connection is to be ended, once the guard has found a reason.
pub(super) type Fault = Rc<Cell<Option<Reason>>>;

/// Reads what was read before it was known to be HTTP/2, then the socket, until there is a fault.
#[derive(Debug)]
pub(super) struct Wire {
    client: Rc<Client>,
    early: Bytes,
    guard: Guard,
    fault: Fault,
    /// What the guard has let pass in place of what came.
    passed: Bytes,
}

impl Wire {
    pub(super) fn new(client: Rc<Client>, early: Bytes, fault: Fault, most: usize, notes: Rc<Notes>) -> Self {
        Self { client, early, guard: Guard::new(PREFACE.len(), most, notes), fault, passed: Bytes::new() }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { client, early, guard, fault, passed } = self.get_mut();
        loop {
            if !passed.is_empty() {
                let count = passed.len().min(target.remaining());
                target.put_slice(&passed.split_to(count));
                return Poll::Ready(Ok(()));
            }
            if fault.get().is_some() {
                // Nothing more is to reach h2. Whoever polls it looks at the fault next.
                return Poll::Pending;
            }
            let room = target.initialize_unfilled();
            let count = if early.is_empty() {
                ready!(client.socket.poll_read(context, room))?
            } else {
                let count = early.len().min(room.len());
                early.copy_to_slice(&mut room[..count]);
                count
            };
            if count == 0 {
                return Poll::Ready(Ok(()));
            }
            let (some, reason) = guard.inspect(&room[..count]);
            fault.set(reason);
            match some {
                // Of what is held nothing shows yet, and no byte at all would be the end.
                Passed::Prefix(0) => {}
                Passed::Prefix(count) => {
                    target.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Passed::Instead(other) => *passed = other.into(),
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
