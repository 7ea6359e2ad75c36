//! An in-process duplex connection between two tasks of one thread.
//!
//! It takes the place of a socket: an HTTP/2 request is forwarded like one from an HTTP/1 connection. Its buffers are
//! bounded, so that back-pressure reaches the writer.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, BytesMut};

use crate::buffer::TINY;
use crate::stream_budget::{Charge, ConnectionBudget};

/// The capacity of one direction in bytes, unless the connection's budget is exhausted.
const CAPACITY: usize = 64 * 1024;

/// One end of the connection.
#[derive(Debug)]
pub(crate) struct Pipe {
    incoming: Rc<RefCell<Direction>>,
    outgoing: Rc<RefCell<Direction>>,
}

#[derive(Debug)]
struct Direction {
    buffer: BytesMut,
    /// The charge of the bytes in the buffer.
    charge: Charge,
    /// The writer has ended the direction.
    ended: bool,
    /// One of the ends was dropped.
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The two ends of a new connection, whose bytes are charged to this budget.
pub(crate) fn pair(budget: &Rc<ConnectionBudget>) -> (Pipe, Pipe) {
    let direction = || Direction {
        buffer: BytesMut::new(),
        charge: Charge::new(budget),
        ended: false,
        broken: false,
        reader: None,
        writer: None,
    };
    let [one, other] = [(); 2].map(|()| Rc::new(RefCell::new(direction())));
    (Pipe { incoming: Rc::clone(&one), outgoing: Rc::clone(&other) }, Pipe { incoming: other, outgoing: one })
}

impl Pipe {
    /// Reads into `target`; 0 is the end of the stream.
    ///
    /// # Errors
    /// The other end was dropped without ending its direction, and all its bytes have been read.
    pub(crate) fn poll_read(&self, context: &mut Context<'_>, target: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_take(context, |buffer, charge| {
            let count = target.len().min(buffer.len());
            target[..count].copy_from_slice(&buffer[..count]);
            buffer.advance(count);
            drop(charge.split(count));
            count
        })
    }

    /// Moves all buffered bytes to the end of `target`, and their charge to `target_charge`; 0 is the end of the stream.
    ///
    /// # Errors
    /// As [`poll_read`](Self::poll_read).
    pub(crate) fn poll_fill(
        &self,
        context: &mut Context<'_>,
        target: &mut BytesMut,
        target_charge: &mut Charge,
    ) -> Poll<io::Result<usize>> {
        self.poll_take(context, |buffer, charge| {
            let count = buffer.len();
            target_charge.absorb(charge.split(count));
            if target.is_empty() {
                std::mem::swap(target, buffer);
                buffer.clear();
            } else {
                target.extend_from_slice(buffer);
                buffer.clear();
            }
            count
        })
    }

    fn poll_take(
        &self,
        context: &mut Context<'_>,
        take: impl FnOnce(&mut BytesMut, &mut Charge) -> usize,
    ) -> Poll<io::Result<usize>> {
        let direction = &mut *self.incoming.borrow_mut();
        if !direction.buffer.is_empty() {
            let count = take(&mut direction.buffer, &mut direction.charge);
            wake(&mut direction.writer);
            return Poll::Ready(Ok(count));
        }
        if direction.ended {
            return Poll::Ready(Ok(0));
        }
        if direction.broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        register(&mut direction.reader, context);
        Poll::Pending
    }

    /// Writes some of `bytes`.
    ///
    /// # Errors
    /// The other end was dropped.
    pub(crate) fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let direction = &mut *self.outgoing.borrow_mut();
        if direction.broken || direction.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let capacity = if direction.charge.budget().is_exhausted() { TINY } else { CAPACITY };
        let count = bytes.len().min(capacity.saturating_sub(direction.buffer.len()));
        if count == 0 && !bytes.is_empty() {
            register(&mut direction.writer, context);
            return Poll::Pending;
        }
        direction.buffer.extend_from_slice(&bytes[..count]);
        direction.charge.add(count);
        wake(&mut direction.reader);
        Poll::Ready(Ok(count))
    }

    /// Ends the writing direction.
    pub(crate) fn end(&self) {
        let direction = &mut *self.outgoing.borrow_mut();
        direction.ended = true;
        wake(&mut direction.reader);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        for direction in [&self.incoming, &self.outgoing] {
            let direction = &mut *direction.borrow_mut();
            direction.broken = true;
            wake(&mut direction.reader);
            wake(&mut direction.writer);
        }
    }
}

fn register(waker: &mut Option<Waker>, context: &Context<'_>) {
    match waker {
        Some(waker) if waker.will_wake(context.waker()) => {}
        _ => *waker = Some(context.waker().clone()),
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn read(pipe: &Pipe) -> io::Result<Vec<u8>> {
        let mut target = BytesMut::new();
        let mut charge = Charge::new(pipe.incoming.borrow().charge.budget());
        poll_fn(|context| pipe.poll_fill(context, &mut target, &mut charge)).await?;
        Ok(target.to_vec())
    }

    async fn write_all(pipe: &Pipe, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = poll_fn(|context| pipe.poll_write(context, bytes)).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    #[tokio::test]
    async fn bytes_arrive_in_order_and_the_buffer_is_bounded() {
        let (one, other) = pair(&Rc::default());
        let sent: Vec<u8> = (0..5 * CAPACITY).map(|index| (index % 251) as u8).collect();
        let send = async {
            write_all(&one, &sent).await.unwrap();
            one.end();
        };
        let receive = async {
            let mut received = Vec::new();
            loop {
                let part = read(&other).await.unwrap();
                assert!(part.len() <= CAPACITY);
                if part.is_empty() {
                    return received;
                }
                received.extend(part);
            }
        };
        let ((), received) = tokio::join!(send, receive);
        assert!(received == sent);
    }

    #[tokio::test]
    async fn each_end_detects_that_the_other_was_dropped() {
        let (one, other) = pair(&Rc::default());
        write_all(&one, b"whole").await.unwrap();
        one.end();
        drop(one);
        assert_eq!(read(&other).await.unwrap(), b"whole");
        assert_eq!(read(&other).await.unwrap(), b"");
        assert_eq!(write_all(&other, b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);

        let (one, other) = pair(&Rc::default());
        let reading = async { read(&other).await.unwrap_err().kind() };
        let breaking = async { drop(one) };
        let (kind, ()) = tokio::join!(biased; reading, breaking);
        assert_eq!(kind, io::ErrorKind::ConnectionReset);

        let (one, other) = pair(&Rc::default());
        write_all(&one, b"half").await.unwrap();
        drop(one);
        assert_eq!(read(&other).await.unwrap(), b"half");
        assert_eq!(read(&other).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
