//! A connection between two parts of one thread: what one end writes the other reads, and each end notices when
//! the other goes away.
//!
//! It stands where a socket would: a request that came over HTTP/2 is forwarded like one that came over a
//! connection of its own. Memory is taken as bytes come and bounded, which is what carries back-pressure across.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, BytesMut};

use super::allowance::{Allowance, Charge};
use crate::buffer::TINY;

/// Bytes one direction holds before its writer has to wait, unless its connection's allowance is spent.
const CAPACITY: usize = 64 * 1024;

/// One end.
#[derive(Debug)]
pub(crate) struct Pipe {
    incoming: Rc<RefCell<Direction>>,
    outgoing: Rc<RefCell<Direction>>,
}

#[derive(Debug)]
struct Direction {
    buffer: BytesMut,
    /// Counts what is in the buffer.
    charge: Charge,
    /// The writer has said that nothing more comes.
    ended: bool,
    /// One of the ends is gone.
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The two ends of a new connection, whose bytes count on this allowance.
pub(crate) fn pair(allowance: &Rc<Allowance>) -> (Pipe, Pipe) {
    let direction = || Direction {
        buffer: BytesMut::new(),
        charge: Charge::new(allowance),
        ended: false,
        broken: false,
        reader: None,
        writer: None,
    };
    let [one, other] = [(); 2].map(|()| Rc::new(RefCell::new(direction())));
    (Pipe { incoming: Rc::clone(&one), outgoing: Rc::clone(&other) }, Pipe { incoming: other, outgoing: one })
}

impl Pipe {
    /// Reads into `target`; 0 is the end.
    ///
    /// # Errors
    /// The other end went away without ending, and all it wrote has been read.
    pub(crate) fn poll_read(&self, context: &mut Context<'_>, target: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_take(context, |buffer, charge| {
            let count = target.len().min(buffer.len());
            target[..count].copy_from_slice(&buffer[..count]);
            buffer.advance(count);
            drop(charge.split(count));
            count
        })
    }

    /// Moves everything there is to the end of `target`, and what counts it to `counted`; 0 is the end.
    ///
    /// # Errors
    /// As [`poll_read`](Self::poll_read).
    pub(crate) fn poll_fill(
        &self,
        context: &mut Context<'_>,
        target: &mut BytesMut,
        counted: &mut Charge,
    ) -> Poll<io::Result<usize>> {
        self.poll_take(context, |buffer, charge| {
            let count = buffer.len();
            counted.absorb(charge.split(count));
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
    /// The other end is gone.
    pub(crate) fn poll_write(&self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let direction = &mut *self.outgoing.borrow_mut();
        if direction.broken || direction.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let most = if direction.charge.allowance().is_spent() { TINY } else { CAPACITY };
        let count = bytes.len().min(most.saturating_sub(direction.buffer.len()));
        if count == 0 && !bytes.is_empty() {
            register(&mut direction.writer, context);
            return Poll::Pending;
        }
        direction.buffer.extend_from_slice(&bytes[..count]);
        direction.charge.add(count);
        wake(&mut direction.reader);
        Poll::Ready(Ok(count))
    }

    /// Says that nothing more is written.
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
        let mut counted = Charge::new(pipe.incoming.borrow().charge.allowance());
        poll_fn(|context| pipe.poll_fill(context, &mut target, &mut counted)).await?;
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
    async fn bytes_cross_in_order_and_a_slow_reader_holds_the_writer_back() {
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
    async fn an_end_that_goes_away_is_noticed() {
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
