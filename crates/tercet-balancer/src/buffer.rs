//! A reusable read buffer: bytes arrive at its end and are consumed from its start.
//!
//! It knows nothing of HTTP. Its memory is initialised once and kept, so reading costs no clearing. A meter counts it.

use std::cell::Cell;
use std::rc::Rc;

/// Bytes a buffer has when it is made; most heads and small bodies fit.
pub(crate) const SMALL: usize = 16 * 1024;
/// Bytes a buffer has once a body is known to be long.
pub(crate) const LARGE: usize = 256 * 1024;

/// Bytes a buffer has when there is little memory left for buffers: progress is slow then, and still made.
pub(crate) const TINY: usize = 1024;

/// Counts the bytes that buffers have, used or not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Rc<Cell<usize>>);

impl Meter {
    /// Bytes that all its buffers have.
    pub(crate) fn bytes(&self) -> usize {
        self.0.get()
    }
}

/// Bytes between a producer (a socket) and a consumer (a parser or another socket).
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    meter: Meter,
}

impl Buffer {
    pub(crate) fn new(capacity: usize, meter: &Meter) -> Self {
        let meter = meter.clone();
        meter.0.set(meter.0.get() + capacity);
        Self { bytes: vec![0; capacity], start: 0, end: 0, meter }
    }

    /// A buffer for nothing.
    pub(crate) fn none() -> Self {
        Self::new(0, &Meter::default())
    }

    fn grow(&mut self, capacity: usize) {
        self.meter.0.set(self.meter.0.get() + capacity - self.bytes.len());
        self.bytes.resize(capacity, 0);
    }

    /// The bytes that arrived and were not consumed yet.
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

    /// Where the next bytes go; may be empty, see [`make_room`](Self::make_room).
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// Takes `count` bytes written to [`spare`](Self::spare) in.
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

    /// Makes the spare room not empty: moves what is filled to the front, or doubles the buffer up to
    /// `limit` bytes. False when the buffer is full at its limit.
    pub(crate) fn make_room(&mut self, limit: usize) -> bool {
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
        self.meter.0.set(self.meter.0.get() - self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_by_moving_before_growing_and_ends_at_the_limit() {
        let meter = Meter::default();
        let mut buffer = Buffer::new(4, &meter);
        buffer.extend(b"abcd");
        buffer.consume(2);
        assert!(buffer.make_room(8));
        assert_eq!(buffer.spare().len(), 2);
        assert_eq!((buffer.filled(), buffer.capacity()), (&b"cd"[..], 4));
        buffer.extend(b"efghij");
        assert_eq!(buffer.filled(), b"cdefghij");
        assert!(!buffer.make_room(8));
        buffer.consume(8);
        assert!(buffer.is_empty() && buffer.make_room(8));
        assert_eq!(meter.bytes(), 8);
        drop(buffer);
        assert_eq!(meter.bytes(), 0);
    }
}
