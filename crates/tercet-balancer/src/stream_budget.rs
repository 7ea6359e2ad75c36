//! The memory budget of HTTP/2 streams: the bytes buffered between servers and clients, per connection and per worker.
//!
//! A client decides how fast its streams transfer, and has many of them. So buffered bytes are counted, from the pipe of
//! a stream until `h2` has written them. When the budget is exhausted, each stream still gets one small piece at a time:
//! transfers are slow then, but no stream waits for another client.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};

use crate::buffer::TINY;

/// The budget of one connection, in bytes.
const PER_CONNECTION: usize = 256 * 1024;
/// The budget of all connections of a worker, in bytes.
const PER_WORKER: usize = 1 << 20;
/// The most connections of a worker with large flow-control windows.
const MAX_LARGE_WINDOWS: usize = 16;

/// The budget of all connections of a worker.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorkerBudget {
    used: Rc<Cell<usize>>,
    large_windows: Rc<Cell<usize>>,
}

/// The budget of one connection.
#[derive(Debug, Default)]
pub(crate) struct ConnectionBudget {
    used: Cell<usize>,
    worker: WorkerBudget,
}

/// Bytes charged to a budget; released on drop.
#[derive(Debug)]
pub(crate) struct Charge {
    budget: Rc<ConnectionBudget>,
    bytes: usize,
}

/// Bytes of a body that are buffered by `h2`, with their charge.
#[derive(Debug)]
pub(crate) struct ChargedBytes {
    bytes: Bytes,
    charge: Charge,
    stream: Rc<Outstanding>,
}

/// The bytes of one stream that are buffered by `h2`.
#[derive(Debug, Default)]
pub(crate) struct Outstanding {
    bytes: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

/// The permit of a connection to use large flow-control windows; released on drop.
#[derive(Debug)]
pub(crate) struct LargeWindows(Rc<Cell<usize>>);

impl WorkerBudget {
    /// A new connection's budget.
    pub(crate) fn connection(&self) -> Rc<ConnectionBudget> {
        Rc::new(ConnectionBudget { used: Cell::default(), worker: self.clone() })
    }

    /// A permit to use large windows; `None` when enough connections have one.
    pub(crate) fn large_windows(&self) -> Option<LargeWindows> {
        let others = self.large_windows.get();
        if others >= MAX_LARGE_WINDOWS {
            return None;
        }
        self.large_windows.set(others + 1);
        Some(LargeWindows(Rc::clone(&self.large_windows)))
    }
}

impl Drop for LargeWindows {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl ConnectionBudget {
    /// Whether this budget or that of the worker is exhausted.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.used.get() >= PER_CONNECTION || self.worker.used.get() >= PER_WORKER
    }

    fn add(&self, bytes: usize) {
        self.used.set(self.used.get() + bytes);
        self.worker.used.set(self.worker.used.get() + bytes);
    }

    fn release(&self, bytes: usize) {
        self.used.set(self.used.get() - bytes);
        self.worker.used.set(self.worker.used.get() - bytes);
    }
}

impl Charge {
    /// A charge of no bytes.
    pub(crate) fn new(budget: &Rc<ConnectionBudget>) -> Self {
        Self { budget: Rc::clone(budget), bytes: 0 }
    }

    /// The budget that is charged.
    pub(crate) fn budget(&self) -> &Rc<ConnectionBudget> {
        &self.budget
    }

    /// Charges more bytes.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.budget.add(bytes);
        self.bytes += bytes;
    }

    /// Splits off the charge of at most `bytes` bytes.
    pub(crate) fn split(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { budget: Rc::clone(&self.budget), bytes }
    }

    /// Merges another charge of the same connection.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

impl ChargedBytes {
    /// Bytes for a stream, with their charge.
    pub(crate) fn new(bytes: Bytes, charge: Charge, stream: &Rc<Outstanding>) -> Self {
        stream.bytes.set(stream.bytes.get() + bytes.len());
        Self { bytes, charge, stream: Rc::clone(stream) }
    }
}

impl Buf for ChargedBytes {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        drop(self.charge.split(count));
        self.stream.remove(count);
    }
}

impl Drop for ChargedBytes {
    fn drop(&mut self) {
        self.stream.remove(self.bytes.len());
    }
}

impl Outstanding {
    fn remove(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() - bytes);
        if self.bytes.get() == 0
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Ready once `h2` has written all bytes.
    pub(crate) fn poll_written(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.bytes.get() == 0 {
            return Poll::Ready(());
        }
        *self.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    /// How many more bytes may be passed to `h2`: any number, or when the budget is exhausted a few, once it has
    /// written all others.
    pub(crate) fn poll_capacity(&self, context: &mut Context<'_>, budget: &ConnectionBudget) -> Poll<usize> {
        if !budget.is_exhausted() {
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
    fn bytes_are_charged_until_they_are_written() {
        let worker = WorkerBudget::default();
        let (one, other) = (worker.connection(), worker.connection());
        let mut charge = Charge::new(&one);
        charge.add(PER_CONNECTION);
        assert!(one.is_exhausted() && !other.is_exhausted());
        let stream = Rc::default();
        let mut bytes = ChargedBytes::new(Bytes::from_static(b"1234"), charge.split(4), &stream);
        drop(charge);
        assert_eq!((one.used.get(), stream.bytes.get()), (4, 4));
        bytes.advance(3);
        assert_eq!((one.used.get(), stream.bytes.get()), (1, 1));
        drop(bytes);
        assert_eq!((one.used.get(), worker.used.get(), stream.bytes.get()), (0, 0, 0));

        let mut charges: Vec<Charge> = (0..8).map(|_| Charge::new(&worker.connection())).collect();
        for charge in &mut charges {
            charge.add(PER_WORKER / 8);
        }
        assert!(other.is_exhausted(), "the budget of the worker");
        let mut whole = Charge::new(&other);
        whole.add(1);
        whole.absorb(Charge::new(&other));
        drop((charges, whole));
        assert_eq!(worker.used.get(), 0);
    }

    #[test]
    fn the_number_of_connections_with_large_windows_is_limited() {
        let worker = WorkerBudget::default();
        let mut permits: Vec<LargeWindows> =
            (0..MAX_LARGE_WINDOWS).map(|_| worker.large_windows().unwrap()).collect();
        assert!(worker.large_windows().is_none());
        permits.pop();
        assert!(worker.large_windows().is_some());
    }
}
