//! Connections to a server that several requests share, one behind the other (RFC 9112 section 9.3.2).
//!
//! Most of what a small request costs is the kernel's: here many requests go to a server in one write, and their
//! answers come in few reads. What comes while a connection waits for answers is gathered, and leaves when the last of
//! them is there: it would have had to stand behind them anyway. The price is that an answer waits for those
//! before it, so sharing is only for servers the configuration vouches for, for safe requests without a body, and only
//! as long as all goes well: at the first answer that is late, broken or held up by its client, those behind it
//! go to connections of their own, and the server's connections are not shared for a moment. A request that was sent
//! stays behind a late one until the server has shown that it works on others meanwhile: one that is blocked would
//! find it twice. What an answer is, and where it ends, is for whoever has the turn to know.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::buffer::{Buffer, Meter, SMALL};
use crate::pool::Pool;
use crate::server::Server;
use crate::socket::Socket;

/// How long those behind may be kept waiting by the one at the front.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long a server's connections are not shared after one had to be given up.
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes of requests a connection's buffer may keep for the next ones.
const KEPT: usize = 64 * 1024;

/// A worker's shared connections.
#[derive(Debug, Default)]
pub(crate) struct Pipelines {
    servers: RefCell<Vec<ServerPipelines>>,
    /// Those with requests that are not sent yet.
    unsent: RefCell<Vec<Rc<Pipeline>>>,
    /// The task that sends: it comes after all who have something to send in this round of the event loop.
    sender: RefCell<Option<Waker>>,
}

#[derive(Debug)]
struct ServerPipelines {
    server: Arc<Server>,
    open: Vec<Rc<Pipeline>>,
    paused_until: Option<Instant>,
}

/// One connection and the requests on it.
#[derive(Debug)]
struct Pipeline {
    socket: Socket,
    state: Cell<State>,
    queue: RefCell<Queue>,
}

/// Whether a connection is still shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The one at the front takes too long: nobody joins any more, and those that were not sent leave.
    Stalled,
    /// The server closes it: nobody joins any more, and those who wait leave.
    Closing,
    /// Something went wrong on it: as above, and its server has a rest from sharing.
    GivenUp,
}

#[derive(Debug)]
struct Queue {
    /// Requests the socket has not taken yet.
    outgoing: Vec<u8>,
    written: usize,
    /// The number of the first slot whose request is in `outgoing`.
    unsent: u64,
    /// How long that request is.
    first_unsent: usize,
    /// What came from the server and belongs to whoever has the turn.
    incoming: Buffer,
    /// The number of the slot that has the turn.
    turn: u64,
    /// Who waits for which slot, from the one that has the turn on.
    waiting: VecDeque<Place>,
    /// The number of the first slot whose request will not be sent, once the sharing has ended.
    reach: u64,
    /// When the turn last went on.
    since: Instant,
    /// Whether the answer to the one that has the turn has begun.
    has_begun: bool,
    /// The server's signs of life when it was found to take too long.
    signs: Option<u64>,
}

/// What is known of whoever waits.
#[derive(Debug, Default)]
struct Place {
    waker: Option<Waker>,
    /// Its client has left: nobody will know where its answer ends.
    is_abandoned: bool,
}

/// A request's place on a shared connection. Dropping it unsettled gives the connection up, at the latest when its turn
/// comes.
#[derive(Debug)]
pub(crate) struct PipelineSlot {
    pipeline: Rc<Pipeline>,
    number: u64,
    settled: bool,
}

impl Pipelines {
    /// Sends a request over a connection to `server` that others share; `None` when there is none, or the server
    /// does not take part. A connection for it comes from the `pool`.
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
        of_server.look_through(now);
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

    /// Sends what waits to be sent; never ready.
    pub(crate) fn poll_send(&self, context: &mut Context<'_>) -> Poll<()> {
        self.sender.borrow_mut().get_or_insert_with(|| context.waker().clone()).clone_from(context.waker());
        self.unsent.borrow_mut().retain(|pipeline| pipeline.poll_send(context).is_pending());
        Poll::Pending
    }

    /// Looks after connections whose turn has not gone on for too long while others wait for it.
    pub(crate) fn tick(&self, now: Instant) {
        for of_server in self.servers.borrow().iter() {
            for pipeline in &of_server.open {
                let is_late = pipeline.length() > 1
                    && now.saturating_duration_since(pipeline.queue.borrow().since) >= PATIENCE;
                if is_late {
                    pipeline.stall(&of_server.server);
                }
            }
        }
    }

    /// Closes what has been idle for `timeout`, what servers have closed, and idle connections to servers that are
    /// not in rotation.
    pub(crate) fn sweep(&self, timeout: Duration, now: Instant) {
        let mut servers = self.servers.borrow_mut();
        for of_server in servers.iter_mut() {
            of_server.look_through(now);
            let keep = of_server.server.is_available();
            of_server.open.retain(|pipeline| {
                pipeline.length() > 0 || (keep && now - pipeline.queue.borrow().since < timeout)
            });
        }
        servers.retain(|of_server| {
            !of_server.open.is_empty() || of_server.paused_until.is_some_and(|until| now < until)
        });
        // What nobody waits for any more need not be sent either.
        self.unsent.borrow_mut().retain(|pipeline| Rc::strong_count(pipeline) > 1);
    }
}

impl ServerPipelines {
    /// Takes away what was given up, and what was closed while idle.
    fn look_through(&mut self, now: Instant) {
        let Self { open, paused_until, .. } = self;
        open.retain(|pipeline| match pipeline.state.get() {
            State::Open => pipeline.length() > 0 || pipeline.socket.is_quiet(),
            State::Stalled => {
                *paused_until = Some(now + PAUSE);
                pipeline.length() > 0
            }
            State::Closing => false,
            State::GivenUp => {
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
            incoming: Buffer::new(SMALL, &Meter::default()),
            turn: 0,
            first_unsent: 0,
            waiting: VecDeque::new(),
            reach: 0,
            since: now,
            has_begun: false,
            signs: None,
        };
        Rc::new(Self { socket, state: Cell::new(State::Open), queue: RefCell::new(queue) })
    }

    /// Requests on it.
    fn length(&self) -> usize {
        self.queue.borrow().waiting.len()
    }

    /// Ends the sharing. Whoever has the turn goes on alone.
    fn end(&self, state: State) {
        if matches!(self.state.get(), State::Open | State::Stalled) {
            self.state.set(state);
        }
        let queue = &mut *self.queue.borrow_mut();
        queue.forget_unsent();
        for waker in queue.waiting.iter_mut().filter_map(|place| place.waker.take()) {
            waker.wake();
        }
    }

    /// Ends the sharing when a request that was not sent is not to be: with those that wait as it does.
    fn leave_unsent(&self, number: u64) {
        if number >= self.queue.borrow().unsent {
            self.end(State::Stalled);
        }
    }

    /// Whether all answers are there that will come.
    fn is_over(&self) -> bool {
        let queue = self.queue.borrow();
        queue.turn >= queue.reach
    }

    /// Lets those behind a late answer leave: at first those that were not sent, the others when it is held up by its
    /// client, or when the server has shown that it works on something else.
    fn stall(&self, server: &Server) {
        let works_on = {
            let queue = &mut *self.queue.borrow_mut();
            let then = *queue.signs.get_or_insert(server.signs());
            queue.has_begun || then != server.signs()
        };
        if works_on {
            self.end(State::GivenUp);
        } else if self.state.get() == State::Open {
            self.end(State::Stalled);
        }
    }

    fn poll_send(&self, context: &mut Context<'_>) -> Poll<()> {
        let queue = &mut *self.queue.borrow_mut();
        if queue.gathers() {
            return Poll::Pending;
        }
        while queue.written < queue.outgoing.len() {
            match self.socket.poll_write(context, &queue.outgoing[queue.written..]) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(count)) if count > 0 => queue.written += count,
                // Who has the turn finds out by reading.
                Poll::Ready(_) => break,
            }
        }
        queue.outgoing.clear();
        queue.outgoing.shrink_to(KEPT);
        queue.written = 0;
        queue.unsent = queue.end();
        Poll::Ready(())
    }
}

impl Queue {
    /// Drops requests the socket has taken nothing of, except that of whoever has the turn.
    fn forget_unsent(&mut self) {
        self.reach = self.end();
        if self.written == 0 {
            let is_sent = self.turn < self.unsent;
            self.reach = if is_sent { self.unsent } else { self.turn + 1 };
            self.outgoing.truncate(if is_sent { 0 } else { self.first_unsent });
        }
    }

    /// The number of the next slot.
    fn end(&self) -> u64 {
        self.turn + self.waiting.len() as u64
    }

    /// Whether what is unsent waits for answers to what was sent.
    fn gathers(&self) -> bool {
        self.turn < self.unsent && self.written == 0
    }
}

impl PipelineSlot {
    fn new(pipeline: &Rc<Pipeline>, request: &[u8], now: Instant) -> Self {
        let queue = &mut *pipeline.queue.borrow_mut();
        if queue.waiting.is_empty() {
            queue.since = now;
        }
        if queue.outgoing.is_empty() {
            queue.first_unsent = request.len();
        }
        queue.outgoing.extend_from_slice(request);
        let number = queue.end();
        queue.waiting.push_back(Place::default());
        Self { pipeline: Rc::clone(pipeline), number, settled: false }
    }

    /// The connection.
    pub(crate) fn socket(&self) -> &Socket {
        &self.pipeline.socket
    }

    /// Waits until the next answer on the connection is this request's; false when the connection was given up.
    pub(crate) fn poll_turn(&self, context: &mut Context<'_>) -> Poll<bool> {
        let queue = &mut *self.pipeline.queue.borrow_mut();
        match self.pipeline.state.get() {
            State::Open | State::Stalled if queue.turn == self.number => return Poll::Ready(true),
            State::Open => {}
            State::Stalled if self.number < queue.reach => {}
            State::Stalled | State::Closing | State::GivenUp => return Poll::Ready(false),
        }
        let waker = &mut queue.waiting[(self.number - queue.turn) as usize].waker;
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    /// Notes that the answer has begun; for whoever has the turn.
    pub(crate) fn has_begun(&self) {
        self.pipeline.queue.borrow_mut().has_begun = true;
    }

    /// Swaps `buffer` for the one with what came from the server; for whoever has the turn, before reading on
    /// and again before settling.
    pub(crate) fn swap_incoming(&self, buffer: &mut Buffer) {
        std::mem::swap(buffer, &mut self.pipeline.queue.borrow_mut().incoming);
    }

    /// Ends the turn after a whole answer. `keeps` is whether the server keeps the connection. Bytes that nobody
    /// has asked for end it as well. What was gathered meanwhile leaves after the last answer.
    pub(crate) fn settle(mut self, pipelines: &Pipelines, keeps: bool, now: Instant) {
        self.settled = true;
        if !keeps {
            return self.pipeline.end(State::Closing);
        }
        let (next, is_spoilt) = {
            let queue = &mut *self.pipeline.queue.borrow_mut();
            queue.waiting.pop_front();
            queue.turn += 1;
            queue.since = now;
            queue.has_begun = false;
            queue.signs = None;
            let all_answered = queue.turn == queue.unsent || queue.waiting.is_empty();
            if all_answered && !queue.outgoing.is_empty() {
                pipelines.wake_sender();
            }
            let is_stray = all_answered && !queue.incoming.is_empty();
            match queue.waiting.front_mut() {
                Some(next) => (next.waker.take(), is_stray || next.is_abandoned),
                None => (None, is_stray),
            }
        };
        if let Some(next) = next {
            next.wake();
        }
        if is_spoilt {
            self.pipeline.end(State::GivenUp);
        } else if self.pipeline.state.get() == State::Stalled && self.pipeline.is_over() {
            self.pipeline.state.set(State::Closing);
        }
    }
}

impl Drop for PipelineSlot {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let has_turn = {
            let queue = &mut *self.pipeline.queue.borrow_mut();
            if self.number > queue.turn && self.number < queue.unsent {
                queue.waiting[(self.number - queue.turn) as usize].is_abandoned = true;
            }
            self.number == queue.turn
        };
        match self.pipeline.state.get() {
            _ if has_turn => self.pipeline.end(State::GivenUp),
            State::Open => self.pipeline.leave_unsent(self.number),
            State::Stalled | State::Closing | State::GivenUp => {}
        }
    }
}
