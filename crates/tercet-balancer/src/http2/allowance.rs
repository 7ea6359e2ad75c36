//! How many bytes HTTP/2 streams may hold between a server and a client, in all and of each connection.
//!
//! A client decides how fast a stream moves, and has many. So what waits is counted, from the pipe a stream comes
//! through until `h2` has written it. Beyond its allowance each stream of a connection still gets a little, one piece
//! after the other: progress is slow then, and nothing has to wait for anything but its own client.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};

use crate::buffer::TINY;

/// Bytes of one connection.
const OF_CONNECTION: usize = 256 * 1024;
/// Bytes of all connections of a worker.
const IN_ALL: usize = 1 << 20;
/// Connections of a worker that may send much ahead of servers.
const WIDE: usize = 16;

/// What all connections of a worker hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Budget {
    held: Rc<Cell<usize>>,
    wide: Rc<Cell<usize>>,
}

/// What one connection holds.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    own: Cell<usize>,
    budget: Budget,
}

/// Bytes that are counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    allowance: Rc<Allowance>,
    bytes: usize,
}

/// Bytes of a body that `h2` holds.
#[derive(Debug)]
pub(crate) struct Held {
    bytes: Bytes,
    charge: Charge,
    stream: Rc<Outstanding>,
}

/// What `h2` holds of one stream.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    bytes: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

/// The right of a connection to have much on its way to servers, until it is dropped.
#[derive(Debug)]
pub(crate) struct Wide(Rc<Cell<usize>>);

impl Budget {
    /// A connection's allowance.
    pub(crate) fn connection(&self) -> Rc<Allowance> {
        Rc::new(Allowance { own: Cell::default(), budget: self.clone() })
    }

    /// The right to have much on its way to servers, while few have it.
    pub(crate) fn wide(&self) -> Option<Wide> {
        let others = self.wide.get();
        if others >= WIDE {
            return None;
        }
        self.wide.set(others + 1);
        Some(Wide(Rc::clone(&self.wide)))
    }
}

impl Drop for Wide {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Allowance {
    /// Whether streams have to make do with little.
    pub(crate) fn is_spent(&self) -> bool {
        self.own.get() >= OF_CONNECTION || self.budget.held.get() >= IN_ALL
    }

    fn add(&self, bytes: usize) {
        self.own.set(self.own.get() + bytes);
        self.budget.held.set(self.budget.held.get() + bytes);
    }

    fn release(&self, bytes: usize) {
        self.own.set(self.own.get() - bytes);
        self.budget.held.set(self.budget.held.get() - bytes);
    }
}

impl Charge {
    /// A count of nothing yet.
    pub(crate) fn new(allowance: &Rc<Allowance>) -> Self {
        Self { allowance: Rc::clone(allowance), bytes: 0 }
    }

    /// What it counts on.
    pub(crate) fn allowance(&self) -> &Rc<Allowance> {
        &self.allowance
    }

    /// Counts more.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.allowance.add(bytes);
        self.bytes += bytes;
    }

    /// Hands the count of so many bytes over.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { allowance: Rc::clone(&self.allowance), bytes }
    }

    /// Takes another count of the same connection over.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.allowance.release(self.bytes);
    }
}

impl Held {
    /// Bytes for a stream.
    pub(crate) fn new(bytes: Bytes, charge: Charge, stream: &Rc<Outstanding>) -> Self {
        stream.bytes.set(stream.bytes.get() + bytes.len());
        Self { bytes, charge, stream: Rc::clone(stream) }
    }
}

impl Buf for Held {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        drop(self.charge.split(count));
        self.stream.leave(count);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stream.leave(self.bytes.len());
    }
}

impl Outstanding {
    fn leave(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() - bytes);
        if self.bytes.get() == 0
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Ready once `h2` has written all it was given.
    pub(crate) fn poll_written(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.bytes.get() == 0 {
            return Poll::Ready(());
        }
        *self.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    /// How many more bytes `h2` may be given: all, or when little is left a few, once it has written the last ones.
    pub(crate) fn poll_room(&self, context: &mut Context<'_>, allowance: &Allowance) -> Poll<usize> {
        if !allowance.is_spent() {
            return Poll::Ready(usize::MAX);
        }
        if self.bytes.get() == 0 {
            return Poll::Ready(TINY);
        }
        *self.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_until_it_is_written() {
        let budget = Budget::default();
        let (one, other) = (budget.connection(), budget.connection());
        let mut charge = Charge::new(&one);
        charge.add(OF_CONNECTION);
        assert!(one.is_spent() && !other.is_spent());
        let stream = Rc::default();
        let mut held = Held::new(Bytes::from_static(b"1234"), charge.split(4), &stream);
        drop(charge);
        assert_eq!((one.own.get(), stream.bytes.get()), (4, 4));
        held.advance(3);
        assert_eq!((one.own.get(), stream.bytes.get()), (1, 1));
        drop(held);
        assert_eq!((one.own.get(), budget.held.get(), stream.bytes.get()), (0, 0, 0));

        let mut charges: Vec<Charge> = (0..8).map(|_| Charge::new(&budget.connection())).collect();
        for charge in &mut charges {
            charge.add(IN_ALL / 8);
        }
        assert!(other.is_spent(), "all together have too much");
        let mut whole = Charge::new(&other);
        whole.add(1);
        whole.absorb(Charge::new(&other));
        drop((charges, whole));
        assert_eq!(budget.held.get(), 0);
    }

    #[test]
    fn few_connections_may_have_much_under_way_at_a_time() {
        let budget = Budget::default();
        let allowance = budget.connection();
        let mut wide: Vec<Wide> = (0..WIDE).map(|_| budget.wide().unwrap()).collect();
        assert!(budget.wide().is_none());
        wide.pop();
        assert!(budget.wide().is_some());
        drop(allowance);
    }
}
