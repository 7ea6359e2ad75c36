//! A reusable read buffer: bytes are appended at its end and consumed from its start.
//!
//! It does not depend on HTTP. Its memory is initialised once and kept, so reading needs no clearing, and is counted
//! by a [`Meter`].

use std::cell::Cell;
use std::rc::Rc;

/// The usual capacity in bytes; most heads and small bodies fit.
pub(crate) const SMALL: usize = 16 * 1024;
/// The capacity for long bodies.
pub(crate) const LARGE: usize = 256 * 1024;

/// The capacity when the memory budget is exhausted: transfers are slow then, but make progress.
pub(crate) const TINY: usize = 1024;

/// Counts the capacity of buffers in bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Rc<Cell<usize>>);

impl Meter {
    /// The capacity of all its buffers.
    pub(crate) fn bytes(&self) -> usize {
        self.0.get()
    }

    fn add(&self, bytes: usize) {
        self.0.set(self.0.get() + bytes);
    }
}

/// Bytes between a producer (a socket) and a consumer (a parser or another socket).
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// None without capacity.
    meter: Option<Meter>,
}

impl Buffer {
    pub(crate) fn new(capacity: usize, meter: &Meter) -> Self {
        let meter = meter.clone();
        meter.add(capacity);
        Self { bytes: vec![0; capacity], start: 0, end: 0, meter: Some(meter) }
    }

    /// A buffer without capacity.
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    fn grow(&mut self, capacity: usize) {
        self.meter.get_or_insert_default().add(capacity - self.bytes.len());
        self.bytes.resize(capacity, 0);
    }

    /// The bytes that were not consumed yet.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// The free space at the end; may be empty, see [`ensure_spare`](Self::ensure_spare).
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// Adds the first `count` bytes of [`spare`](Self::spare) to the filled ones.
    pub(crate) fn advance(&mut self, count: usize) {
        self.end += count;
        debug_assert!(self.end <= self.bytes.len());
    }

    /// Drops `count` bytes from the front.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            self.clear();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Makes sure that there is free space: moves the filled bytes to the front, or doubles the capacity up to `limit`
    /// bytes. False when the buffer is full at its limit.
    pub(crate) fn ensure_spare(&mut self, limit: usize) -> bool {
        if self.end < self.bytes.len() {
            return true;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            return true;
        }
        if self.bytes.len() >= limit {
            return false;
        }
        let grown = (self.bytes.len() * 2).max(TINY).min(limit);
        self.grow(grown);
        true
    }

    /// Appends bytes, growing as needed.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        if self.bytes.len() - self.end < bytes.len() {
            self.grow(self.end + bytes.len());
        }
        self.bytes[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(meter) = &self.meter {
            meter.0.set(meter.0.get() - self.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_made_by_moving_then_by_growing_up_to_the_limit() {
        let meter = Meter::default();
        let mut buffer = Buffer::new(4, &meter);
        buffer.extend(b"abcd");
        buffer.consume(2);
        assert!(buffer.ensure_spare(8));
        assert_eq!(buffer.spare().len(), 2);
        assert_eq!((buffer.filled(), buffer.capacity()), (&b"cd"[..], 4));
        buffer.extend(b"efghij");
        assert_eq!(buffer.filled(), b"cdefghij");
        assert!(!buffer.ensure_spare(8));
        buffer.consume(8);
        assert!(buffer.is_empty() && buffer.ensure_spare(8));
        assert_eq!(meter.bytes(), 8);
        drop(buffer);
        assert_eq!(meter.bytes(), 0);
    }
}
