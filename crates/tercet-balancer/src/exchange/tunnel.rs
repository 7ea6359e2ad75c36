//! A tunnel after a protocol switch (WebSocket): relays bytes both ways, with back-pressure, until both sides have
//! ended or the server is cut off.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use crate::buffer::Buffer;
use crate::client::Client;
use crate::request_buffers::RequestBuffers;
use crate::server::Server;
use crate::socket::Socket;

/// One direction.
struct Direction<'a> {
    from: &'a Socket,
    to: &'a Socket,
    buffer: &'a mut Buffer,
    ended: bool,
    done: bool,
}

/// Relays bytes between the client and the server until both have ended, one fails, or none were transferred for
/// `idle`. Bytes that arrived before the switch are in `buffers`.
pub(super) async fn run(
    client: &Client,
    server: &Server,
    socket: &Socket,
    buffers: &mut RequestBuffers,
    idle: Duration,
) {
    let mut up = Direction::new(&client.socket, socket, &mut buffers.body);
    let mut down = Direction::new(socket, &client.socket, &mut buffers.server);
    client.deadline.set(idle);
    poll_fn(|context| {
        loop {
            if server.is_cut_off() {
                return Poll::Ready(());
            }
            let (sent, received) = (up.poll(context), down.poll(context));
            match (sent, received) {
                (Poll::Ready(Err(_)), _)
                | (_, Poll::Ready(Err(_)))
                | (Poll::Ready(Ok(false)), Poll::Ready(Ok(false))) => return Poll::Ready(()),
                (Poll::Ready(Ok(true)), _) | (_, Poll::Ready(Ok(true))) => client.deadline.set(idle),
                _ if client.deadline.expired(context) => return Poll::Ready(()),
                _ => return Poll::Pending,
            }
        }
    })
    .await;
}

impl<'a> Direction<'a> {
    fn new(from: &'a Socket, to: &'a Socket, buffer: &'a mut Buffer) -> Self {
        Self { from, to, buffer, ended: false, done: false }
    }

    /// Transfers bytes: ready with true when some were transferred, with false when this direction has ended.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.done {
            return Poll::Ready(Ok(false));
        }
        let mut moved = false;
        loop {
            while !self.buffer.is_empty() {
                match self.to.poll_write(context, self.buffer.filled())? {
                    Poll::Ready(count) => self.buffer.consume(count),
                    Poll::Pending if moved => return Poll::Ready(Ok(true)),
                    Poll::Pending => return Poll::Pending,
                }
                moved = true;
            }
            ready!(self.to.poll_flush(context))?;
            if self.ended {
                ready!(self.to.poll_shutdown(context))?;
                self.done = true;
                return Poll::Ready(Ok(moved));
            }
            match self.from.poll_read(context, self.buffer.spare())? {
                Poll::Ready(0) => self.ended = true,
                Poll::Ready(count) => self.buffer.advance(count),
                Poll::Pending if moved => return Poll::Ready(Ok(true)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
