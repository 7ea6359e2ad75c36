//! The progress of a request.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tercet_observe::stages::Stages;

use crate::http1::Method;

/// The progress of a request; shared by upload, download and the retry rules.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// A byte of the request was written to the server's socket: the server may have received it.
    pub(super) accepted: Cell<bool>,
    /// All bytes of the request that were sent are still buffered.
    pub(super) is_buffered: Cell<bool>,
    /// The whole request was sent.
    pub(super) uploaded: Cell<bool>,
    /// The balancer waits for the client to send more of the request's body.
    pub(super) reading_from_client: Cell<bool>,
    /// The balancer waits for the client to receive more of the response.
    pub(super) sending_to_client: Cell<bool>,
    /// A byte of a response was sent to the client.
    pub(super) responding: Cell<bool>,
    /// The response is a stream of server-sent events: a client that half-closes has disconnected.
    pub(super) is_event_stream: Cell<bool>,
    /// The final status; 0 before it is known.
    pub(super) status: Cell<u16>,
    /// Time from sending the request to the first byte of the response.
    pub(super) first_byte: Cell<Option<Duration>>,
    /// When the request was sent to the server of the last attempt.
    pub(super) sent: Cell<Option<Instant>>,
    /// The stages that the data API server told.
    pub(super) stages: Cell<Option<Stages>>,
    /// Body bytes sent to the client.
    pub(super) bytes: Cell<u64>,
}

impl Progress {
    /// Resets the state of the previous attempt; `sent` is whether the request was already sent (pipelined).
    pub(super) fn start(&self, sent: bool) {
        self.accepted.set(sent);
        self.uploaded.set(false);
        self.reading_from_client.set(false);
        self.sending_to_client.set(false);
        self.is_event_stream.set(false);
        self.first_byte.set(None);
        self.stages.set(None);
    }

    pub(super) fn count(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    /// Whether the request may be sent once more: no response began, it is buffered, and no server may have received
    /// it, or its method is idempotent.
    pub(super) fn may_resend(&self, method: Method) -> bool {
        !self.responding.get() && self.is_buffered.get() && (!self.accepted.get() || method.is_idempotent())
    }
}
