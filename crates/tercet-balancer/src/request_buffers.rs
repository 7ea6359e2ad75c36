//! The buffer pool: the buffers of a request, reused by one request after another.
//!
//! An idle connection holds none of them, and a request that waits for its response holds none for the response: the
//! buffer that was used last is the one in the processor's cache. Their memory is bounded: once a worker has used up
//! its budget, the pool returns tiny buffers, so that back-pressure reaches slow clients and servers sooner.

use std::cell::RefCell;

use crate::buffer::{Buffer, LARGE, Meter, SMALL, TINY};

/// The most [`RequestBuffers`] a worker keeps; more are freed after a burst.
const MAX_KEPT: usize = 256;
/// The most buffers for responses a worker keeps.
const MAX_RESPONSES_KEPT: usize = 16;
/// The most large buffers a worker keeps.
const MAX_LARGE_KEPT: usize = 8;
/// The most capacity in bytes that a kept output has.
const OUTPUT_CAPACITY: usize = 16 * 1024;
/// The memory budget of all workers in bytes.
const BUDGET: usize = 8 << 20;
/// The least memory budget of one worker in bytes.
const WORKER_BUDGET: usize = 1 << 20;

/// The buffers of one request.
#[derive(Debug)]
pub(crate) struct RequestBuffers {
    /// Bytes received from the client: the request's head stays at the front until the request is done.
    pub(crate) client: Buffer,
    /// Bytes received from the client after those in `client`: the rest of a streamed body.
    pub(crate) body: Buffer,
    /// Bytes received from the server; without capacity while there are none.
    pub(crate) server: Buffer,
    /// The request for the server: its head, and the first part of its body.
    pub(crate) request: Vec<u8>,
    /// The response for the client: its head, and the first part of its body.
    pub(crate) response: Vec<u8>,
}

/// A worker's buffer pool.
#[derive(Debug)]
pub(crate) struct BufferPool {
    #[expect(clippy::vec_box, reason = "a connection holds the box, so moving it in and out is one pointer")]
    kept: RefCell<Vec<Box<RequestBuffers>>>,
    /// For responses: small ones, and outputs.
    responses: RefCell<Vec<Buffer>>,
    outputs: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Buffer>>,
    meter: Meter,
    /// The memory budget in bytes; beyond it, new buffers are tiny.
    budget: usize,
}

impl BufferPool {
    /// The buffer pool of one of `workers` workers.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            kept: RefCell::default(),
            responses: RefCell::default(),
            outputs: RefCell::default(),
            large: RefCell::default(),
            meter: Meter::default(),
            budget: (BUDGET / workers.max(1)).max(WORKER_BUDGET),
        }
    }

    fn allows(&self, bytes: usize) -> bool {
        self.meter.bytes() + bytes <= self.budget
    }

    /// An empty buffer: small, or tiny if the budget is exhausted.
    pub(crate) fn small(&self) -> Buffer {
        Buffer::new(if self.allows(SMALL) { SMALL } else { TINY }, &self.meter)
    }

    /// Empty buffers for a request.
    pub(crate) fn take(&self) -> Box<RequestBuffers> {
        self.kept.borrow_mut().pop().unwrap_or_else(|| {
            Box::new(RequestBuffers {
                client: self.small(),
                body: Buffer::empty(),
                server: Buffer::empty(),
                request: Vec::new(),
                response: Vec::new(),
            })
        })
    }

    /// Returns buffers to the pool; their content is discarded.
    pub(crate) fn give_back(&self, mut buffers: Box<RequestBuffers>) {
        self.shrink(&mut buffers);
        let mut kept = self.kept.borrow_mut();
        if kept.len() < MAX_KEPT && buffers.client.capacity() == SMALL {
            buffers.client.clear();
            kept.push(buffers);
        }
    }

    /// An empty buffer for a response. Beyond the budget not one that is kept: what it receives is copied to an output, which
    /// a client that does not read holds for long.
    pub(crate) fn take_response(&self) -> Buffer {
        let kept = if self.allows(0) { self.responses.borrow_mut().pop() } else { None };
        kept.unwrap_or_else(|| self.small())
    }

    /// Returns the buffer of a response to the pool; its content is discarded.
    pub(crate) fn give_back_response(&self, mut buffer: Buffer) {
        let mut kept = self.responses.borrow_mut();
        if buffer.capacity() == SMALL && kept.len() < MAX_RESPONSES_KEPT {
            buffer.clear();
            kept.push(buffer);
        } else {
            self.keep_large(buffer);
        }
    }

    /// An empty output for a response.
    pub(crate) fn take_output(&self) -> Vec<u8> {
        self.outputs.borrow_mut().pop().unwrap_or_default()
    }

    /// Replaces a buffer by a large one with the same content, or if the budget is exhausted by one of at least `least`
    /// bytes.
    pub(crate) fn enlarge(&self, buffer: &mut Buffer, least: usize) {
        let kept = self.large.borrow_mut().pop();
        let larger = kept.or_else(|| self.allows(LARGE).then(|| Buffer::new(LARGE, &self.meter)));
        let larger = larger.or_else(|| (buffer.capacity() < least).then(|| Buffer::new(least, &self.meter)));
        if let Some(mut larger) = larger {
            larger.extend(buffer.filled());
            *buffer = larger;
        }
    }

    /// Shrinks the buffers to their usual capacity; bytes received from the client are kept.
    pub(crate) fn shrink(&self, buffers: &mut RequestBuffers) {
        if buffers.body.capacity() > 0 {
            self.keep_large(std::mem::take(&mut buffers.body));
        }
        if buffers.server.capacity() > 0 {
            self.give_back_response(std::mem::take(&mut buffers.server));
        }
        if buffers.client.capacity() > SMALL && buffers.client.len() <= SMALL {
            let mut small = Buffer::new(SMALL, &self.meter);
            small.extend(buffers.client.filled());
            buffers.client = small;
        }
        for output in [&mut buffers.request, &mut buffers.response] {
            output.clear();
            output.shrink_to(OUTPUT_CAPACITY);
        }
        let mut outputs = self.outputs.borrow_mut();
        if buffers.response.capacity() > 0 && outputs.len() < MAX_RESPONSES_KEPT {
            outputs.push(std::mem::take(&mut buffers.response));
        }
    }

    fn keep_large(&self, mut buffer: Buffer) {
        let mut large = self.large.borrow_mut();
        if buffer.capacity() == LARGE && large.len() < MAX_LARGE_KEPT {
            buffer.clear();
            large.push(buffer);
        }
    }
}
