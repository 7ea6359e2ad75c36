//! Permits of a counting semaphore that is never waited for: places in a queue, retries in flight.

use std::sync::atomic::{AtomicUsize, Ordering};

/// A permit; released on drop.
#[derive(Debug)]
pub(crate) struct Permit<'a>(&'a AtomicUsize);

impl<'a> Permit<'a> {
    /// A permit, unless `limit` of this counter are held.
    pub(crate) fn acquire(counter: &'a AtomicUsize, limit: usize) -> Option<Self> {
        let permit = Self(counter);
        (counter.fetch_add(1, Ordering::Relaxed) < limit).then_some(permit)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
