//! A client's socket as `h2` wants it.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::client::Client;

/// Reads what was read before it was known to be HTTP/2, then the socket.
#[derive(Debug)]
pub(super) struct Wire {
    client: Rc<Client>,
    early: Bytes,
}

impl Wire {
    pub(super) fn new(client: Rc<Client>, early: Bytes) -> Self {
        Self { client, early }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            let count = ready!(self.client.socket.poll_read(context, target.initialize_unfilled()))?;
            target.advance(count);
        } else {
            let count = self.early.len().min(target.remaining());
            target.put_slice(&self.early[..count]);
            self.early.advance(count);
        }
        Poll::Ready(Ok(()))
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
