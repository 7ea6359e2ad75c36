//! Pipelined connections to servers (RFC 9112 section 9.3.2).
//!
//! System calls dominate the cost of a small request: a pipeline sends many requests in one write and receives their
//! responses in few reads. Requests that arrive while responses are outstanding are batched, and sent when the last of
//! these is complete: they would have to wait for them anyway. The price is head-of-line blocking. So pipelining is
//! opt-in for each server, limited to safe requests without a body, and ends at the first response that is late,
//! invalid or delayed by its client: the requests behind it move to other connections, and pipelining to the server
//! pauses. A request that was already sent stays behind a late response until the server has begun a response on
//! another connection: if the server's process is blocked, it would receive the request twice.
//!
//! This module does not parse responses: the slot at the front reads its response from the connection.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::buffer::Buffer;
use crate::pool::Pool;
use crate::server::Server;
use crate::socket::Socket;

/// How long the response at the front may take while others wait behind it.
const STALL_TIMEOUT: Duration = Duration::from_millis(100);
/// How long pipelining to a server pauses after one of its pipelines has failed.
const PAUSE: Duration = Duration::from_secs(1);
/// The capacity in bytes that an empty request buffer keeps.
const KEPT_CAPACITY: usize = 64 * 1024;

/// A worker's pipelined connections.
#[derive(Debug, Default)]
pub(crate) struct Pipelines {
    servers: RefCell<Vec<ServerPipelines>>,
    /// Pipelines with unsent requests.
    unsent: RefCell<Vec<Rc<Pipeline>>>,
    /// The task that sends. It runs after the tasks that add requests in the same iteration of the event loop.
    sender: RefCell<Option<Waker>>,
}

#[derive(Debug)]
struct ServerPipelines {
    server: Arc<Server>,
    open: Vec<Rc<Pipeline>>,
    paused_until: Option<Instant>,
}

/// One connection and its requests.
#[derive(Debug)]
struct Pipeline {
    socket: Socket,
    state: Cell<State>,
    queue: RefCell<Queue>,
}

/// Whether a connection is still pipelined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The response at the front is late: no request joins, and unsent ones move to other connections.
    Stalled,
    /// The server closes the connection: no request joins, and all behind the front move to other connections.
    Closing,
    /// A response failed: as [`Closing`](Self::Closing), and pipelining to the server pauses.
    Failed,
}

#[derive(Debug)]
struct Queue {
    /// Requests that are not written to the socket yet.
    outgoing: Vec<u8>,
    written: usize,
    /// The number of the first slot whose request is in `outgoing`.
    unsent: u64,
    /// The length of that request.
    first_unsent: usize,
    /// Bytes received from the server; they belong to the slot at the front.
    incoming: Buffer,
    /// The number of the slot at the front: the one whose response is next.
    front: u64,
    /// The slots, from the front on.
    slots: VecDeque<Waiter>,
    /// Once the pipeline is no longer open: the number of the first slot whose request is not sent.
    end_of_sent: u64,
    /// When the front last advanced.
    since: Instant,
    /// Whether the response at the front has begun.
    response_began: bool,
    /// The server's count of responses when the front was found to be late.
    responses_seen: Option<u64>,
}

/// The task that waits for a slot.
#[derive(Debug, Default)]
struct Waiter {
    waker: Option<Waker>,
    /// The slot was dropped after its request was sent: the end of its response cannot be found.
    is_cancelled: bool,
}

/// A request's slot on a pipelined connection. Dropping it before [`complete`](Self::complete) fails the pipeline, at
/// the latest when the slot reaches the front.
#[derive(Debug)]
pub(crate) struct PipelineSlot {
    pipeline: Rc<Pipeline>,
    number: u64,
    completed: bool,
}

impl Pipelines {
    /// Adds a request to a pipeline to `server`; a new pipeline takes its connection from `pool`. `None` when
    /// pipelining to the server is off or paused, or no connection is idle.
    pub(crate) fn join(
        &self,
        server: &Arc<Server>,
        request: &[u8],
        pool: &Pool,
        now: Instant,
    ) -> Option<PipelineSlot> {
        let depth = server.pipeline.load(Ordering::Relaxed);
        if depth < 2 {
            return None;
        }
        let mut servers = self.servers.borrow_mut();
        let of_server = match servers.iter().position(|of_server| Arc::ptr_eq(&of_server.server, server)) {
            Some(index) => &mut servers[index],
            None => servers.push_mut(ServerPipelines {
                server: Arc::clone(server),
                open: Vec::new(),
                paused_until: None,
            }),
        };
        of_server.remove_ended(now);
        if of_server.paused_until.is_some_and(|until| now < until) {
            return None;
        }
        let joinable =
            |pipeline: &&Rc<Pipeline>| pipeline.state.get() == State::Open && pipeline.length() < depth;
        let pipeline = match of_server.open.iter().find(joinable) {
            Some(pipeline) => Rc::clone(pipeline),
            None => Rc::clone(of_server.open.push_mut(Pipeline::new(pool.take(server, false)?, now))),
        };
        let slot = PipelineSlot::new(&pipeline, request, now);
        if pipeline.queue.borrow().outgoing.len() == request.len() {
            self.unsent.borrow_mut().push(pipeline);
            self.wake_sender();
        }
        Some(slot)
    }

    fn wake_sender(&self) {
        if let Some(sender) = &*self.sender.borrow() {
            sender.wake_by_ref();
        }
    }

    /// Sends the unsent requests; never ready.
    pub(crate) fn poll_send(&self, context: &mut Context<'_>) -> Poll<()> {
        self.sender.borrow_mut().get_or_insert_with(|| context.waker().clone()).clone_from(context.waker());
        self.unsent.borrow_mut().retain(|pipeline| pipeline.poll_send(context).is_pending());
        Poll::Pending
    }

    /// Stalls pipelines whose response at the front is late.
    pub(crate) fn tick(&self, now: Instant) {
        for of_server in self.servers.borrow().iter() {
            for pipeline in &of_server.open {
                let is_late = pipeline.length() > 1
                    && now.saturating_duration_since(pipeline.queue.borrow().since) >= STALL_TIMEOUT;
                if is_late {
                    pipeline.stall(&of_server.server);
                }
            }
        }
    }

    /// Closes idle pipelines after `timeout`, and those that their servers have closed or whose servers are not
    /// available.
    pub(crate) fn sweep(&self, timeout: Duration, now: Instant) {
        let mut servers = self.servers.borrow_mut();
        for of_server in servers.iter_mut() {
            of_server.remove_ended(now);
            let keep = of_server.server.is_available();
            of_server.open.retain(|pipeline| {
                pipeline.length() > 0 || (keep && now - pipeline.queue.borrow().since < timeout)
            });
        }
        servers.retain(|of_server| {
            !of_server.open.is_empty() || of_server.paused_until.is_some_and(|until| now < until)
        });
        // A pipeline without slots and outside of its server's list has nothing to send.
        self.unsent.borrow_mut().retain(|pipeline| Rc::strong_count(pipeline) > 1);
    }
}

impl ServerPipelines {
    /// Removes pipelines that have ended or were closed while idle, and starts the pause after a failure.
    fn remove_ended(&mut self, now: Instant) {
        let Self { open, paused_until, .. } = self;
        open.retain(|pipeline| match pipeline.state.get() {
            State::Open => pipeline.length() > 0 || pipeline.socket.is_idle(),
            State::Stalled => {
                *paused_until = Some(now + PAUSE);
                pipeline.length() > 0
            }
            State::Closing => false,
            State::Failed => {
                *paused_until = Some(now + PAUSE);
                false
            }
        });
    }
}

impl Pipeline {
    fn new(socket: Socket, now: Instant) -> Rc<Self> {
        let queue = Queue {
            outgoing: Vec::new(),
            written: 0,
            unsent: 0,
            incoming: Buffer::empty(),
            front: 0,
            first_unsent: 0,
            slots: VecDeque::new(),
            end_of_sent: 0,
            since: now,
            response_began: false,
            responses_seen: None,
        };
        Rc::new(Self { socket, state: Cell::new(State::Open), queue: RefCell::new(queue) })
    }

    /// The number of requests on it.
    fn length(&self) -> usize {
        self.queue.borrow().slots.len()
    }

    /// Ends the pipelining. The slot at the front keeps the connection.
    fn end(&self, state: State) {
        if matches!(self.state.get(), State::Open | State::Stalled) {
            self.state.set(state);
        }
        let queue = &mut *self.queue.borrow_mut();
        queue.drop_unsent();
        for waker in queue.slots.iter_mut().filter_map(|slot| slot.waker.take()) {
            waker.wake();
        }
    }

    /// Stalls the pipeline if the dropped slot's request is unsent: single requests cannot be removed from the buffer.
    fn cancel_unsent(&self, number: u64) {
        if number >= self.queue.borrow().unsent {
            self.end(State::Stalled);
        }
    }

    /// Whether all responses to the requests that were sent are complete.
    fn is_drained(&self) -> bool {
        let queue = self.queue.borrow();
        queue.front >= queue.end_of_sent
    }

    /// Handles a late response: first only unsent requests move to other connections; the others follow when the
    /// response has begun (its client is slow), or when the server has begun other responses meanwhile.
    fn stall(&self, server: &Server) {
        let is_alive = {
            let queue = &mut *self.queue.borrow_mut();
            let then = *queue.responses_seen.get_or_insert(server.responses_seen());
            queue.response_began || then != server.responses_seen()
        };
        if is_alive {
            self.end(State::Failed);
        } else if self.state.get() == State::Open {
            self.end(State::Stalled);
        }
    }

    fn poll_send(&self, context: &mut Context<'_>) -> Poll<()> {
        let queue = &mut *self.queue.borrow_mut();
        if queue.is_batching() {
            return Poll::Pending;
        }
        while queue.written < queue.outgoing.len() {
            match self.socket.poll_write(context, &queue.outgoing[queue.written..]) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count)) if count > 0 => queue.written += count,
                // The slot at the front gets the error when it reads.
                Poll::Ready(_) => break,
            }
        }
        queue.outgoing.clear();
        queue.outgoing.shrink_to(KEPT_CAPACITY);
        queue.written = 0;
        queue.unsent = queue.end();
        Poll::Ready(())
    }
}

impl Queue {
    /// Drops the unsent requests if no byte of them was written, except the one at the front.
    fn drop_unsent(&mut self) {
        self.end_of_sent = self.end();
        if self.written == 0 {
            let is_sent = self.front < self.unsent;
            self.end_of_sent = if is_sent { self.unsent } else { self.front + 1 };
            self.outgoing.truncate(if is_sent { 0 } else { self.first_unsent });
        }
    }

    /// The number of the next slot.
    fn end(&self) -> u64 {
        self.front + self.slots.len() as u64
    }

    /// Whether the unsent requests wait for outstanding responses.
    fn is_batching(&self) -> bool {
        self.front < self.unsent && self.written == 0
    }
}

impl PipelineSlot {
    fn new(pipeline: &Rc<Pipeline>, request: &[u8], now: Instant) -> Self {
        let queue = &mut *pipeline.queue.borrow_mut();
        if queue.slots.is_empty() {
            queue.since = now;
        }
        if queue.outgoing.is_empty() {
            queue.first_unsent = request.len();
        }
        queue.outgoing.extend_from_slice(request);
        let number = queue.end();
        queue.slots.push_back(Waiter::default());
        Self { pipeline: Rc::clone(pipeline), number, completed: false }
    }

    /// The connection.
    pub(crate) fn socket(&self) -> &Socket {
        &self.pipeline.socket
    }

    /// Waits until the slot is at the front: the next response is this request's. False when the pipeline has ended.
    pub(crate) fn poll_front(&self, context: &mut Context<'_>) -> Poll<bool> {
        let queue = &mut *self.pipeline.queue.borrow_mut();
        match self.pipeline.state.get() {
            State::Open | State::Stalled if queue.front == self.number => return Poll::Ready(true),
            State::Open => {}
            State::Stalled if self.number < queue.end_of_sent => {}
            State::Stalled | State::Closing | State::Failed => return Poll::Ready(false),
        }
        let waker = &mut queue.slots[(self.number - queue.front) as usize].waker;
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Records that the response has begun. Only for the slot at the front.
    pub(crate) fn response_began(&self) {
        self.pipeline.queue.borrow_mut().response_began = true;
    }

    /// Swaps `buffer` and the buffer of received bytes. Only for the slot at the front, before it reads and again
    /// before it completes.
    pub(crate) fn swap_incoming(&self, buffer: &mut Buffer) {
        std::mem::swap(buffer, &mut self.pipeline.queue.borrow_mut().incoming);
    }

    /// Advances the front after a complete response. `keep` is whether the connection may be used further; otherwise,
    /// and after unsolicited bytes, the pipeline ends. Batched requests are sent after the last outstanding response.
    pub(crate) fn complete(mut self, pipelines: &Pipelines, keep: bool, now: Instant) {
        self.completed = true;
        if !keep {
            return self.pipeline.end(State::Closing);
        }
        let (next, has_failed) = {
            let queue = &mut *self.pipeline.queue.borrow_mut();
            queue.slots.pop_front();
            queue.front += 1;
            queue.since = now;
            queue.response_began = false;
            queue.responses_seen = None;
            let none_outstanding = queue.front == queue.unsent || queue.slots.is_empty();
            if none_outstanding && !queue.outgoing.is_empty() {
                pipelines.wake_sender();
            }
            let is_unsolicited = none_outstanding && !queue.incoming.is_empty();
            match queue.slots.front_mut() {
                Some(next) => (next.waker.take(), is_unsolicited || next.is_cancelled),
                None => (None, is_unsolicited),
            }
        };
        if let Some(next) = next {
            next.wake();
        }
        if has_failed {
            self.pipeline.end(State::Failed);
        } else if self.pipeline.state.get() == State::Stalled && self.pipeline.is_drained() {
            self.pipeline.state.set(State::Closing);
        }
    }
}

impl Drop for PipelineSlot {
    fn drop(&mut self) {
        if self.completed {
            return;
        }
        let is_front = {
            let queue = &mut *self.pipeline.queue.borrow_mut();
            if self.number > queue.front && self.number < queue.unsent {
                queue.slots[(self.number - queue.front) as usize].is_cancelled = true;
            }
            self.number == queue.front
        };
        match self.pipeline.state.get() {
            _ if is_front => self.pipeline.end(State::Failed),
            State::Open => self.pipeline.cancel_unsent(self.number),
            State::Stalled | State::Closing | State::Failed => {}
        }
    }
}
