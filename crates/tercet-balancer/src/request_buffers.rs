//! What a request needs while it is on its way, made once and used by one request after another.
//!
//! An idle connection holds none of it. What is lent is bounded in all: a worker that has lent much gives small
//! buffers, with which clients and servers that take their time are held back sooner.

use std::cell::RefCell;

use crate::buffer::{Buffer, LARGE, Meter, SMALL, TINY};

/// RequestBuffers a worker keeps for the next requests; more are freed after a burst.
const KEPT: usize = 64;
/// Large buffers a worker keeps.
const LARGE_KEPT: usize = 8;
/// Bytes an output may have grown to and still be kept.
const OUTPUT_KEPT: usize = 16 * 1024;
/// Bytes of buffers that all workers together have before they give tiny ones.
const PLENTY: usize = 8 << 20;
/// Bytes of buffers a worker may have at least before it gives tiny ones, however many workers there are.
const ENOUGH: usize = 1 << 20;

/// The buffers of one request.
#[derive(Debug)]
pub(crate) struct RequestBuffers {
    /// What came from the client: the head stays at its front until the request is done.
    pub(crate) client: Buffer,
    /// What came from the client after `client` was handed over: the rest of a long body.
    pub(crate) body: Buffer,
    /// What came from the server.
    pub(crate) server: Buffer,
    /// The head, and what of the body was there with it, as the server gets it.
    pub(crate) request: Vec<u8>,
    /// The head, and what of the body was there with it, as the client gets it.
    pub(crate) response: Vec<u8>,
}

/// A worker's buffer_pool of kept and large buffers.
#[derive(Debug)]
pub(crate) struct BufferPool {
    #[expect(clippy::vec_box, reason = "a connection holds the box, so moving it in and out is one pointer")]
    kept: RefCell<Vec<Box<RequestBuffers>>>,
    large: RefCell<Vec<Buffer>>,
    meter: Meter,
    /// Bytes of buffers beyond which only tiny ones are made.
    plenty: usize,
}

impl BufferPool {
    /// The buffer_pool of one of so many workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            kept: RefCell::default(),
            large: RefCell::default(),
            meter: Meter::default(),
            plenty: (PLENTY / workers.max(1)).max(ENOUGH),
        }
    }

    fn has(&self, bytes: usize) -> bool {
        self.meter.bytes() + bytes <= self.plenty
    }

    /// An empty buffer, small if there is memory for it.
    pub(crate) fn small(&self) -> Buffer {
        Buffer::new(if self.has(SMALL) { SMALL } else { TINY }, &self.meter)
    }

    /// An empty buffers.
    pub(crate) fn take(&self) -> Box<RequestBuffers> {
        self.kept.borrow_mut().pop().unwrap_or_else(|| {
            Box::new(RequestBuffers {
                client: self.small(),
                body: Buffer::none(),
                server: self.small(),
                request: Vec::new(),
                response: Vec::new(),
            })
        })
    }

    /// Takes a buffers back, whatever is in it.
    pub(crate) fn give_back(&self, mut buffers: Box<RequestBuffers>) {
        self.shrink(&mut buffers);
        let mut kept = self.kept.borrow_mut();
        let is_whole = buffers.client.capacity() == SMALL && buffers.server.capacity() == SMALL;
        if kept.len() < KEPT && is_whole {
            buffers.client.clear();
            buffers.server.clear();
            kept.push(buffers);
        }
    }

    /// Swaps a buffer for a large one if there is memory for it, and otherwise for one of at least `least` bytes,
    /// taking its bytes along.
    pub(crate) fn enlarge(&self, buffer: &mut Buffer, least: usize) {
        let kept = self.large.borrow_mut().pop();
        let larger = kept.or_else(|| self.has(LARGE).then(|| Buffer::new(LARGE, &self.meter)));
        let larger = larger.or_else(|| (buffer.capacity() < least).then(|| Buffer::new(least, &self.meter)));
        if let Some(mut larger) = larger {
            larger.extend(buffer.filled());
            *buffer = larger;
        }
    }

    /// Gives the memory that only a long body needs back; what the client sent stays.
    pub(crate) fn shrink(&self, buffers: &mut RequestBuffers) {
        if buffers.body.capacity() > 0 {
            self.keep_large(std::mem::replace(&mut buffers.body, Buffer::none()));
        }
        if buffers.server.capacity() > SMALL {
            self.keep_large(std::mem::replace(&mut buffers.server, self.small()));
        }
        if buffers.client.capacity() > SMALL && buffers.client.len() <= SMALL {
            let mut small = Buffer::new(SMALL, &self.meter);
            small.extend(buffers.client.filled());
            buffers.client = small;
        }
        for output in [&mut buffers.request, &mut buffers.response] {
            output.clear();
            output.shrink_to(OUTPUT_KEPT);
        }
    }

    fn keep_large(&self, mut buffer: Buffer) {
        let mut large = self.large.borrow_mut();
        if buffer.capacity() == LARGE && large.len() < LARGE_KEPT {
            buffer.clear();
            large.push(buffer);
        }
    }
}
