//! What a request needs while it is on its way, made once and used by one request after another.
//!
//! An idle connection holds none of it.

use std::cell::RefCell;

use crate::buffer::{Buffer, LARGE, SMALL};

/// Scratches a worker keeps for the next requests; more are freed after a burst.
const KEPT: usize = 256;
/// Large buffers a worker keeps.
const LARGE_KEPT: usize = 16;
/// Bytes an output may have grown to and still be kept.
const OUTPUT_KEPT: usize = 64 * 1024;

/// The buffers of one request.
#[derive(Debug)]
pub(crate) struct Scratch {
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

/// A worker's stock of scratches and large buffers.
#[derive(Debug, Default)]
pub(crate) struct Stock {
    #[expect(clippy::vec_box, reason = "a connection holds the box, so moving it in and out is one pointer")]
    scratches: RefCell<Vec<Box<Scratch>>>,
    large: RefCell<Vec<Buffer>>,
}

impl Stock {
    /// An empty scratch.
    pub(crate) fn take(&self) -> Box<Scratch> {
        self.scratches.borrow_mut().pop().unwrap_or_else(|| {
            Box::new(Scratch {
                client: Buffer::new(SMALL),
                body: Buffer::new(0),
                server: Buffer::new(SMALL),
                request: Vec::new(),
                response: Vec::new(),
            })
        })
    }

    /// Takes a scratch back, whatever is in it.
    pub(crate) fn give_back(&self, mut scratch: Box<Scratch>) {
        self.shrink(&mut scratch);
        let mut scratches = self.scratches.borrow_mut();
        if scratches.len() < KEPT {
            scratch.client.clear();
            scratch.server.clear();
            scratches.push(scratch);
        }
    }

    /// Swaps a buffer for a large one, taking its bytes along.
    pub(crate) fn enlarge(&self, buffer: &mut Buffer) {
        let mut large = self.large.borrow_mut().pop().unwrap_or_else(|| Buffer::new(LARGE));
        large.extend(buffer.filled());
        *buffer = large;
    }

    /// Gives the memory that only a long body needs back; what the client sent stays.
    pub(crate) fn shrink(&self, scratch: &mut Scratch) {
        if scratch.body.capacity() > 0 {
            self.keep_large(std::mem::replace(&mut scratch.body, Buffer::new(0)));
        }
        if scratch.server.capacity() > SMALL {
            self.keep_large(std::mem::replace(&mut scratch.server, Buffer::new(SMALL)));
        }
        if scratch.client.capacity() > SMALL && scratch.client.len() <= SMALL {
            let mut small = Buffer::new(SMALL);
            small.extend(scratch.client.filled());
            scratch.client = small;
        }
        for output in [&mut scratch.request, &mut scratch.response] {
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
