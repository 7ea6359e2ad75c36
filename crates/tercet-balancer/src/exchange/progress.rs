//! How far a request has come.

use std::cell::Cell;
use std::time::Duration;

use crate::http1::Method;

/// How far a request has come; both of its directions and the one who decides about retries look at it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The server's socket took a byte of the request: the server may have seen it.
    pub(super) accepted: Cell<bool>,
    /// All that was sent of the request is still at hand.
    pub(super) repeatable: Cell<bool>,
    /// The whole request was sent.
    pub(super) uploaded: Cell<bool>,
    /// The next step is the client's: to send more of its body.
    pub(super) waits_for_client: Cell<bool>,
    /// The next step is the client's: to take more of its answer.
    pub(super) waits_for_reader: Cell<bool>,
    /// Something was sent to the client.
    pub(super) answering: Cell<bool>,
    /// What is sent is a stream of events, which whoever closes a connection has left.
    pub(super) is_event_stream: Cell<bool>,
    /// The final status; 0 before it is known.
    pub(super) status: Cell<u16>,
    /// From handing the request over to the first byte of the answer.
    pub(super) first_byte: Cell<Option<Duration>>,
    /// Body bytes sent to the client.
    pub(super) bytes: Cell<u64>,
}

impl Progress {
    /// Forgets the try before; `sent` is whether the request is on its way already.
    pub(super) fn start(&self, sent: bool) {
        self.accepted.set(sent);
        self.uploaded.set(false);
        self.waits_for_client.set(false);
        self.waits_for_reader.set(false);
        self.is_event_stream.set(false);
        self.first_byte.set(None);
    }

    pub(super) fn count(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    /// Whether the request may be sent once more, as far as its meaning goes.
    pub(super) fn may_send_again(&self, method: Method) -> bool {
        !self.answering.get() && self.repeatable.get() && (!self.accepted.get() || method.is_idempotent())
    }
}
