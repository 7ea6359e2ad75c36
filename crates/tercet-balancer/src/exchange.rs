//! One request's way: to a server whose turn it is, and the answer's way back.
//!
//! The rules of trying again live here. A request that no server can have seen goes to the next server,
//! whatever its method; one that a server may have seen is repeated only if its method is idempotent, its
//! body is still at hand, nothing of an answer has gone out, and the retry budget allows it. The budget is
//! for load: what a server that is out of rotation leaves behind is not charged to it.

mod download;
mod request;
mod tunnel;
mod upload;

use std::cell::Cell;
use std::future::{Future as _, poll_fn};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tercet_observe::AccessRecord;
use tokio::net::TcpStream;

use self::download::{Delivered, Download, DownloadFailure};
use self::upload::{Upload, UploadFailure};
use crate::answer::Answer;
use crate::buffer::{Buffer, SMALL};
use crate::client::Client;
use crate::config::Config;
use crate::forwarded::RequestId;
use crate::http1::response::Asked;
use crate::http1::{Decoder, Field, Framing, Method, Refusal, RequestHead, Version};
use crate::pipeline::Ticket;
use crate::rotation::{Pick, Turn};
use crate::scratch::Scratch;
use crate::server::Server;
use crate::socket::Socket;
use crate::worker::Worker;

/// What becomes of the client's connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// It takes the next request.
    Keep,
    /// It is closed, after the client had a chance to read the answer.
    Close,
    /// It is closed at once: the client is gone, or must notice that its answer is not whole.
    Abort,
}

/// How far a request has come; both of its directions and the one who decides about retries look at it.
#[derive(Debug, Default)]
struct Progress {
    /// The server's socket took a byte of the request: the server may have seen it.
    accepted: Cell<bool>,
    /// All that was sent of the request is still at hand.
    repeatable: Cell<bool>,
    /// The whole request was sent.
    uploaded: Cell<bool>,
    /// The next step is the client's: to send more of its body.
    waits_for_client: Cell<bool>,
    /// Something was sent to the client.
    answering: Cell<bool>,
    /// The final status; 0 before it is known.
    status: Cell<u16>,
    /// From handing the request over to the first byte of the answer.
    first_byte: Cell<Option<Duration>>,
    /// Body bytes sent to the client.
    bytes: Cell<u64>,
}

impl Progress {
    /// Forgets the try before; `sent` is whether the request is on its way already.
    fn start(&self, sent: bool) {
        self.accepted.set(sent);
        self.uploaded.set(false);
        self.waits_for_client.set(false);
        self.first_byte.set(None);
    }

    fn count(&self, bytes: u64) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    /// Whether the request may be sent once more, as far as its meaning goes.
    fn may_send_again(&self, method: Method) -> bool {
        !self.answering.get() && self.repeatable.get() && (!self.accepted.get() || method.is_idempotent())
    }
}

/// Why a request is not answered by a server, or a try came to nothing.
#[derive(Debug)]
enum Failure {
    /// The client broke off.
    ClientGone,
    /// The client's body took too long.
    ClientTimeout,
    /// The client's body is malformed or too long.
    ClientRefused(Refusal),
    /// No connection to the server could be made.
    NotConnected,
    /// The server closed or reset the connection.
    Closed,
    /// The server took too long.
    ServerTimeout,
    /// The server was found dead while the answer was waited for.
    ServerDied,
    /// The connection was shared with a request that went wrong or takes its time.
    Displaced,
    /// What the server sent is no answer.
    Invalid(Refusal),
    /// The client makes more requests than it may; how long it has to wait.
    Limited(Duration),
    /// This address only sends to https; where exactly.
    Redirect(String),
    /// The request was not to be forwarded any further (RFC 9110 section 7.6.2).
    LastForward,
    /// All servers are at their limit, and as many requests wait as may.
    QueueFull,
    /// All servers stayed at their limit.
    QueueTimeout,
}

impl From<DownloadFailure> for Failure {
    fn from(failure: DownloadFailure) -> Self {
        match failure {
            DownloadFailure::ClientGone => Self::ClientGone,
            DownloadFailure::Closed => Self::Closed,
            DownloadFailure::Invalid(refusal) => Self::Invalid(refusal),
        }
    }
}

/// Everything about one request that its tries share.
struct Exchange<'a> {
    worker: &'a Worker,
    client: &'a Client,
    config: &'a Config,
    head: &'a RequestHead,
    progress: Progress,
    /// The body as it was when the first part of it was taken.
    decoder: Decoder,
    /// Whether the rest of the body is still to come from the client.
    streamed: bool,
    id: RequestId,
    /// Who asked, as far as can be believed.
    asker: IpAddr,
}

/// The connection a request goes over.
#[derive(Clone, Copy, Debug)]
enum Way<'a> {
    /// One it has for itself.
    Own(&'a Socket),
    /// One that others share: the request was sent, and it has the turn.
    Shared(&'a Ticket),
}

impl Way<'_> {
    fn socket(&self) -> &Socket {
        match self {
            Self::Own(socket) => socket,
            Self::Shared(ticket) => ticket.socket(),
        }
    }
}

/// How long a client that has ended its direction still gets an answer: most that do have gone, and what their
/// requests cost is to end with them.
const HALF_CLOSED: Duration = Duration::from_secs(5);
/// How long clients are told to stay away when no server can take a request.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// What the access log says when the client broke off before there was an answer (nginx's convention).
const CLIENT_GONE: u16 = 499;

/// Takes the request at the front of `scratch.client` to a server and its answer back.
pub(crate) async fn run(
    worker: &Worker,
    client: &Client,
    config: &Config,
    head: &RequestHead,
    scratch: &mut Scratch,
) -> After {
    let started = Instant::now();
    let composed = match request::compose(client, config, head, scratch) {
        Ok(composed) => composed,
        Err(refusal) => return crate::connection::refuse(worker, client, scratch, refusal).await,
    };
    let mut exchange = Exchange {
        worker,
        client,
        config,
        head,
        progress: Progress::default(),
        streamed: !composed.decoder.is_done(),
        decoder: composed.decoder,
        id: composed.id,
        asker: composed.asker,
    };
    exchange.progress.repeatable.set(true);
    let mut server = None;
    let outcome = match exchange.settle_here(scratch, started) {
        Some(reason) => Err(reason),
        None => exchange.carry(scratch, &mut server).await,
    };
    let after = match outcome {
        Ok(after) => after,
        Err(failure) => exchange.answer_failure(&failure, scratch).await,
    };
    exchange.record(scratch, server.as_deref(), started);
    if exchange.streamed {
        scratch.client.clear();
        scratch.client.extend(scratch.body.filled());
        scratch.body.clear();
    } else {
        scratch.client.consume(head.length + composed.body_taken);
    }
    after
}

impl Exchange<'_> {
    /// Why this request is none for a server, if it is none.
    fn settle_here(&self, scratch: &Scratch, now: Instant) -> Option<Failure> {
        let received = scratch.client.filled();
        if self.client.door.listen.redirect_to_https {
            return Some(match request::https_location(self.head, received) {
                Some(location) => Failure::Redirect(location),
                None => Failure::ClientRefused(Refusal { status: 400, reason: "no Host to redirect to" }),
            });
        }
        if self.head.max_forwards == Some(0) {
            return Some(Failure::LastForward);
        }
        let limits = &self.worker.shared.limits;
        limits.request(&self.config.limits, self.asker, now).err().map(|after| {
            self.worker.shared.metrics.limited.fetch_add(1, Ordering::Relaxed);
            Failure::Limited(after)
        })
    }

    /// Tries servers until one answers or no rule allows another try.
    async fn carry(
        &mut self,
        scratch: &mut Scratch,
        server: &mut Option<Arc<Server>>,
    ) -> Result<After, Failure> {
        let key = request::hash_key(self.config, self.asker, self.head, scratch.client.filled());
        let mut tried: SmallVec<[Arc<Server>; 4]> = SmallVec::new();
        let mut failure = None;
        let mut repeating = None;
        let mut attempts = self.config.retries.attempts;
        loop {
            let turn = match self.worker.shared.servers.pick(key, &tried) {
                Pick::Server(turn) => turn,
                Pick::Full => self.wait_for_room(key, &tried).await?,
                Pick::Nobody => return Err(failure.unwrap_or(Failure::NotConnected)),
            };
            *server = Some(Arc::clone(&turn));
            let failed = match self.try_server(&turn, scratch).await {
                Ok(after) => return Ok(after),
                Err(failed) => failed,
            };
            if failed.is_servers_fault() {
                self.worker.shared.servers.request_failed(&turn);
            }
            if !self.may_repeat(&failed) || attempts == 0 {
                return Err(failed);
            }
            if self.progress.accepted.get() && !matches!(failed, Failure::ServerDied) {
                attempts -= 1;
                // A server that refuses connections or is out of rotation, by this very failure perhaps, does no work
                // for the request any more: the next one gets what it would have got anyway. Elsewhere the budget
                // has to allow it.
                let adds_load = turn.is_alive() && !matches!(failed, Failure::NotConnected);
                if adds_load && repeating.is_none() {
                    repeating = self.worker.shared.retry(self.config);
                    if repeating.is_none() {
                        return Err(failed);
                    }
                }
            }
            self.worker.shared.metrics.retries.fetch_add(1, Ordering::Relaxed);
            tried.push(Arc::clone(&turn));
            failure = Some(failed);
        }
    }

    /// Tries one server: on a connection that others share, on one that is at hand, and if that turns out to have
    /// been closed meanwhile, on a new one.
    async fn try_server(&mut self, turn: &Turn, scratch: &mut Scratch) -> Result<After, Failure> {
        if let Some(ticket) = self.join(turn, scratch) {
            match self.try_shared(turn, ticket, scratch).await {
                // What is no answer may be the leftovers of the one before.
                Err(Failure::Displaced | Failure::Closed | Failure::Invalid(_))
                    if self.progress.may_send_again(self.head.method) => {}
                settled => return settled,
            }
        }
        if let Some(socket) = self.worker.pool.take(turn, !self.head.method.is_idempotent()) {
            match self.try_connection(turn, socket, scratch).await {
                Err(Failure::Closed)
                    if self.progress.first_byte.get().is_none()
                        && self.progress.may_send_again(self.head.method) => {}
                settled => return settled,
            }
        }
        let socket = self.connect(turn).await?;
        self.try_connection(turn, socket, scratch).await
    }

    async fn connect(&self, server: &Server) -> Result<Socket, Failure> {
        self.client.watch.set(self.config.timeouts.connect);
        let mut connecting = Box::pin(TcpStream::connect(server.address));
        let stream = poll_fn(|context| match connecting.as_mut().poll(context) {
            Poll::Ready(connected) => Poll::Ready(connected.map_err(|_| Failure::NotConnected)),
            Poll::Pending if self.client.watch.expired(context) || !server.is_alive() => {
                Poll::Ready(Err(Failure::NotConnected))
            }
            Poll::Pending => Poll::Pending,
        })
        .await?;
        // Without it an answer in two parts waits for an acknowledgement; nothing else depends on it.
        let _ = stream.set_nodelay(true);
        Ok(Socket::plain(stream))
    }

    async fn try_connection(
        &mut self,
        turn: &Turn,
        socket: Socket,
        scratch: &mut Scratch,
    ) -> Result<After, Failure> {
        scratch.server.clear();
        self.progress.start(false);
        let delivered = self.pass(turn, Way::Own(&socket), scratch).await?;
        if delivered.switched {
            // The head stays where it is until it is logged.
            scratch.body = Buffer::new(SMALL);
            scratch.body.extend(&scratch.client.filled()[self.head.length..]);
            self.streamed = true;
            tunnel::run(self.client, &socket, scratch, self.config.timeouts.upgrade).await;
            return Ok(After::Abort);
        }
        // Bytes after the answer were not asked for: nobody may get them.
        if delivered.server_keeps && scratch.server.is_empty() && turn.is_available() {
            self.worker.pool.give_back(turn, socket, self.worker.clock.last_tick());
        }
        Ok(if delivered.client_reusable { After::Keep } else { After::Close })
    }

    /// A place on a connection that requests share, if this one may.
    fn join(&self, server: &Arc<Server>, scratch: &Scratch) -> Option<Ticket> {
        let head = self.head;
        if !head.method.is_safe() || self.streamed || head.framing != Framing::None || head.upgrade.is_some()
        {
            return None;
        }
        let Worker { pipelines, pool, clock, .. } = self.worker;
        pipelines.join(server, &scratch.request, pool, clock.last_tick())
    }

    async fn try_shared(&self, turn: &Turn, ticket: Ticket, scratch: &mut Scratch) -> Result<After, Failure> {
        self.progress.start(true);
        self.client.watch.set(self.config.timeouts.response);
        poll_fn(|context| match ticket.poll_turn(context) {
            Poll::Ready(true) => Poll::Ready(Ok(())),
            Poll::Ready(false) => Poll::Ready(Err(Failure::Displaced)),
            Poll::Pending => match self.interruption(context, turn, &mut scratch.client) {
                Some(failure) => Poll::Ready(Err(failure)),
                None => Poll::Pending,
            },
        })
        .await?;
        ticket.swap_incoming(&mut scratch.server);
        let delivered = self.pass(turn, Way::Shared(&ticket), scratch).await?;
        ticket.swap_incoming(&mut scratch.server);
        ticket.settle(delivered.server_keeps && turn.is_available(), self.worker.clock.last_tick());
        Ok(if delivered.client_reusable { After::Keep } else { After::Close })
    }

    /// Sends the request over one connection and passes the answer on, both directions at the same time.
    async fn pass(&self, turn: &Turn, way: Way<'_>, scratch: &mut Scratch) -> Result<Delivered, Failure> {
        let Self { worker, client, config, head, progress, .. } = self;
        let mut decoder = self.decoder;
        client.watch.set(config.timeouts.response);
        let socket = way.socket();
        let mut upload = Upload {
            client,
            server: socket,
            timeouts: &config.timeouts,
            stock: &worker.stock,
            progress,
            outgoing: &scratch.request,
            body: &mut scratch.body,
            decoder: &mut decoder,
            written: match way {
                Way::Own(_) => 0,
                Way::Shared(_) => scratch.request.len(),
            },
            ready: 0,
        };
        let download = Download {
            client,
            server: turn,
            socket,
            config,
            stock: &worker.stock,
            progress,
            asked: Asked { method: head.method, upgrade: head.upgrade.is_some() },
            version: head.version,
            keep_alive: head.keep_alive && !worker.is_stopping(),
            incoming: &mut scratch.server,
            output: &mut scratch.response,
            started: Instant::now(),
        };
        let mut download = pin!(download.run());
        let mut uploading = true;
        let delivered = poll_fn(|context| {
            if uploading {
                match upload.poll(context) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => {
                        uploading = false;
                        progress.uploaded.set(true);
                    }
                    Poll::Ready(Err(UploadFailure::ClientGone)) => {
                        return Poll::Ready(Err(Failure::ClientGone));
                    }
                    Poll::Ready(Err(UploadFailure::Refused(refusal))) => {
                        return Poll::Ready(Err(Failure::ClientRefused(refusal)));
                    }
                    Poll::Ready(Err(UploadFailure::Server)) if !progress.accepted.get() => {
                        return Poll::Ready(Err(Failure::Closed));
                    }
                    // The server takes no more, but its answer may already be on the way.
                    Poll::Ready(Err(UploadFailure::Server)) => uploading = false,
                }
            }
            if let Poll::Ready(delivered) = download.as_mut().poll(context) {
                return Poll::Ready(delivered.map_err(Failure::from));
            }
            let ahead = match (uploading, self.streamed) {
                (true, _) => &mut Buffer::new(0),
                (false, true) => &mut *upload.body,
                (false, false) => &mut scratch.client,
            };
            match self.interruption(context, turn, ahead) {
                Some(failure) => Poll::Ready(Err(failure)),
                None => Poll::Pending,
            }
        })
        .await?;
        if let Some(after) = progress.first_byte.get() {
            turn.answered(progress.status.get(), after);
        }
        Ok(delivered)
    }

    /// Why an answer that is not there yet is not waited for any more. What the client sends meanwhile goes to
    /// `ahead`, as far as that has room.
    fn interruption(
        &self,
        context: &mut Context<'_>,
        server: &Server,
        ahead: &mut Buffer,
    ) -> Option<Failure> {
        let Self { worker, client, config, progress, .. } = self;
        let had_ended = client.has_ended();
        if client.read_ahead(context, ahead).is_err() {
            return Some(Failure::ClientGone);
        }
        if client.has_ended() && !had_ended && !progress.answering.get() {
            client.watch.set(config.timeouts.response.min(HALF_CLOSED));
        }
        if client.watch.expired(context) {
            return Some(if progress.waits_for_client.get() {
                Failure::ClientTimeout
            } else if client.has_ended() {
                Failure::ClientGone
            } else {
                Failure::ServerTimeout
            });
        }
        // Only when somebody else can have it: the server may be slow and not dead.
        let is_movable = !server.is_alive() && progress.may_send_again(self.head.method);
        (is_movable && worker.shared.servers.available() > 0).then_some(Failure::ServerDied)
    }

    /// Whether the request may go to another server after this failure.
    fn may_repeat(&self, failure: &Failure) -> bool {
        match failure {
            Failure::NotConnected => true,
            Failure::Closed | Failure::ServerTimeout | Failure::ServerDied | Failure::Displaced => {
                self.progress.may_send_again(self.head.method)
            }
            Failure::ClientGone
            | Failure::ClientTimeout
            | Failure::ClientRefused(_)
            | Failure::Invalid(_)
            | Failure::Limited(_)
            | Failure::Redirect(_)
            | Failure::LastForward
            | Failure::QueueFull
            | Failure::QueueTimeout => false,
        }
    }
}

impl Failure {
    fn is_servers_fault(&self) -> bool {
        match self {
            Self::NotConnected | Self::Closed | Self::ServerTimeout | Self::Invalid(_) => true,
            Self::ClientGone
            | Self::ClientTimeout
            | Self::ClientRefused(_)
            | Self::ServerDied
            | Self::Displaced
            | Self::Limited(_)
            | Self::Redirect(_)
            | Self::LastForward
            | Self::QueueFull
            | Self::QueueTimeout => false,
        }
    }
}

impl Exchange<'_> {
    /// Waits until a server has room for one more request.
    async fn wait_for_room(&self, key: u64, tried: &[Arc<Server>]) -> Result<Turn, Failure> {
        let shared = &self.worker.shared;
        let Some(_place) = shared.queue(self.config.limits.queue) else { return Err(Failure::QueueFull) };
        self.client.watch.set(self.config.timeouts.queue);
        loop {
            // Registered before looking, so that room made in between is not missed.
            let mut room = pin!(shared.servers.room.notified());
            room.as_mut().enable();
            match shared.servers.pick(key, tried) {
                Pick::Server(turn) => return Ok(turn),
                Pick::Nobody => return Err(Failure::NotConnected),
                Pick::Full => {}
            }
            if self
                .client
                .in_time(async {
                    room.await;
                    Ok(())
                })
                .await
                .is_err()
            {
                return Err(Failure::QueueTimeout);
            }
        }
    }

    /// Tells the client why there is no answer, if it has not been sent part of one.
    async fn answer_failure(&self, failure: &Failure, scratch: &mut Scratch) -> After {
        let (status, message) = match failure {
            Failure::ClientGone => (CLIENT_GONE, ""),
            Failure::ClientTimeout => (408, "the request body took too long"),
            Failure::ClientRefused(refusal) => (refusal.status, refusal.reason),
            // Bodies are checked by the same rules in both directions, and refused as a client's would be.
            Failure::Invalid(refusal) => (502, refusal.reason),
            // A server that was given up because others were left, who are gone by now as well.
            Failure::NotConnected | Failure::ServerDied | Failure::Displaced => {
                (503, "no server is available")
            }
            Failure::QueueFull | Failure::QueueTimeout => (503, "all servers are busy"),
            Failure::Closed => (502, "the server closed the connection without an answer"),
            Failure::Limited(_) => (429, "too many requests"),
            Failure::Redirect(_) => (308, "this is served over https only"),
            Failure::LastForward => (200, "this is the balancer"),
            Failure::ServerTimeout => (504, "the server took too long to answer"),
        };
        if self.progress.answering.get() {
            return After::Abort;
        }
        self.progress.status.set(status);
        if status == CLIENT_GONE {
            return After::Abort;
        }
        // What is left of the request's body would be taken for the next request.
        let whole = !self.streamed || self.progress.uploaded.get();
        let keep_alive = self.head.keep_alive && whole && !self.worker.is_stopping();
        scratch.response.clear();
        let mut text = [0; 36];
        let id = self.id.text(scratch.client.filled(), &mut text);
        let answer = Answer {
            status,
            message,
            request_id: str::from_utf8(id).ok(),
            retry_after: match failure {
                Failure::Limited(after) => Some(*after),
                _ => (status == 503).then_some(RETRY_AFTER),
            },
            location: match failure {
                Failure::Redirect(location) => Some(location),
                _ => None,
            },
            keep_alive,
        };
        let bytes = answer.write(&mut scratch.response, self.head.version, self.head.method);
        self.progress.bytes.set(bytes);
        match crate::answer::send(self.worker, self.client, scratch).await {
            Ok(()) if keep_alive => After::Keep,
            Ok(()) => After::Close,
            Err(_) => After::Abort,
        }
    }

    fn record(&self, scratch: &Scratch, server: Option<&Server>, started: Instant) {
        let buffer = scratch.client.filled();
        self.worker.record(&AccessRecord {
            client: Some(self.asker),
            request_id: self.id.text(buffer, &mut [0; 36]),
            method: self.head.method_name.in_buffer(buffer),
            target: self.head.target.in_buffer(buffer),
            version: match self.head.version {
                _ if self.client.socket.is_stream() => "HTTP/2.0",
                Version::Http10 => "HTTP/1.0",
                Version::Http11 => "HTTP/1.1",
            },
            status: self.progress.status.get(),
            bytes: self.progress.bytes.get(),
            duration: started.elapsed(),
            upstream: server.map_or("-", |server| &server.name),
            upstream_duration: self.progress.first_byte.get(),
            referer: self.head.value(buffer, Field::Referer),
            user_agent: self.head.value(buffer, Field::UserAgent),
        });
    }
}
