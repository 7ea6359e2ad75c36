//! Runs one request: selects a server, forwards the request, relays the response, and retries.
//!
//! Retry rules: a request that no server can have received is sent to the next server of its backend pool, whatever its method. A
//! request that a server may have received is retried only if its method is idempotent, its body is still buffered, no byte of
//! a response was sent to the client, and the retry budget allows it. The budget bounds load, so retries of a server
//! that is out of rotation are not charged to it. A request in flight stays on its server until the response, a
//! timeout or a connection error; health checks do not move it.

mod attempt;
mod buffering;
mod download;
mod failure;
mod file;
mod progress;
mod receipt;
mod request;
mod tunnel;
mod upload;

use std::future::poll_fn;
use std::net::IpAddr;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tercet_observe::AccessRecord;
use tercet_observe::trace_context::TraceContext;

use self::attempt::Attempt;
use self::buffering::Spool;
use self::failure::{CLIENT_GONE, Failure};
use self::progress::Progress;
use self::request::Composed;
use crate::access::{Access, is_in};
use crate::active::{Active, BackendPool};
use crate::buffer::Buffer;
use crate::client::{After, Client};
use crate::forwarded::RequestId;
use crate::http1::{Decoder, Field, Refusal, RequestHead, host};
use crate::local_reply::{LocalReply, Page};
use crate::pages;
use crate::request_buffers::RequestBuffers;
use crate::rotation::{InFlight, Selection};
use crate::routes::{Destination, Selected};
use crate::server::{Server, Standing};
use crate::servers::Servers;
use crate::traces;
use crate::users::Verdict;
use crate::worker::Worker;

/// One request, with the state that its attempts share.
struct Exchange<'a> {
    worker: &'a Worker,
    client: &'a Client,
    config: &'a Active,
    head: &'a RequestHead,
    progress: Progress,
    /// The body decoder, after the first part of the body.
    decoder: Decoder,
    /// Bytes of the body in that part.
    body_taken: usize,
    /// Whether the body is streamed: its rest is still to be read from the client.
    streamed: bool,
    /// The part of a buffered body that is in a file; boxed, because hardly any request has one.
    spool: Option<Box<Spool>>,
    id: RequestId,
    /// The range of its text in `buffers.request`.
    id_range: Range<usize>,
    selected: Selected<'a>,
    /// The server that was tried last.
    server: Option<Arc<Server>>,
    /// The client's address: the peer's, or the one that trusted proxies reported.
    client_address: IpAddr,
    /// Where it is in a trace, if requests are traced; boxed, so that a request without a trace does not hold one.
    trace: Option<Box<TraceContext>>,
}

/// The `Retry-After` of a 503 response.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Runs the request at the front of `buffers.client`, and returns what happens to the client's connection.
pub(crate) async fn run(
    worker: &Worker,
    client: &Client,
    config: &Active,
    head: &RequestHead,
    buffers: &mut RequestBuffers,
) -> After {
    let started = Instant::now();
    let received = buffers.client.filled();
    let host = head.host.map(|host| host.in_buffer(received));
    let (selected, refusal) = match config.routes.select(host, head.path.in_buffer(received)) {
        Ok(selected) => (selected, None),
        Err(refusal) => (Selected::NONE, Some(refusal)),
    };
    let composed = match request::compose(client, config, head, selected, buffers) {
        Ok(composed) => composed,
        Err(refusal) => return crate::local_reply::refuse(worker, client, buffers, refusal).await,
    };
    let mut exchange = Exchange::new(worker, client, config, head, selected, composed);
    let mut answered = exchange.without_server(buffers, started).or(refusal.map(Failure::ClientRefused));
    if let (None, Some(access)) = (&answered, selected.access()) {
        answered = Box::pin(exchange.denied(access, buffers)).await;
    }
    let outcome = match (answered, exchange.selected.to) {
        (Some(reason), _) => Err(reason),
        (None, None) => Err(Failure::NoRoute),
        // Boxed, so that a request that waits for a server does not hold the state of one for a file.
        (None, Some(Destination::Files(files))) => Box::pin(exchange.send_file(files, buffers)).await,
        (None, Some(Destination::Pool(index))) => {
            exchange.forward(&config.backend_pools[*index], buffers).await
        }
    };
    let after = match outcome {
        Ok(after) => after,
        Err(failure) => exchange.send_failure(&failure, buffers).await,
    };
    exchange.record(buffers, started);
    if exchange.streamed {
        buffers.client.clear();
        buffers.client.extend(buffers.body.filled());
        buffers.body.clear();
    } else {
        buffers.client.consume(head.length + exchange.body_taken);
    }
    after
}

impl<'a> Exchange<'a> {
    /// The exchange of a composed request, which is moved here as a whole: what stays behind of it would be held while the request waits.
    fn new(
        worker: &'a Worker,
        client: &'a Client,
        config: &'a Active,
        head: &'a RequestHead,
        selected: Selected<'a>,
        composed: Composed,
    ) -> Self {
        let progress = Progress::default();
        progress.is_buffered.set(true);
        Self {
            worker,
            client,
            config,
            head,
            progress,
            streamed: !composed.decoder.is_done(),
            decoder: composed.decoder,
            spool: None,
            body_taken: composed.body_taken,
            id: composed.id,
            id_range: composed.id_range,
            selected,
            server: None,
            client_address: composed.client_address,
            trace: composed.trace,
        }
    }
}

impl Exchange<'_> {
    /// Checks the rules that respond to a request without a server: redirect, `Max-Forwards`, rate limit, maintenance.
    fn without_server(&self, buffers: &RequestBuffers, now: Instant) -> Option<Failure> {
        let received = buffers.client.filled();
        if self.client.bind_address.listen.redirect_to_https && self.has_https(received) {
            return Some(match request::https_location(self.head, received) {
                Some(location) => Failure::Redirect(location),
                None => Failure::ClientRefused(Refusal { status: 400, reason: "no Host to redirect to" }),
            });
        }
        if self.head.max_forwards == Some(0) {
            return Some(Failure::LastForward);
        }
        let limits = &self.worker.shared.limits;
        if let Err(after) = limits.request(&self.config.limits, self.client_address, now) {
            self.worker.shared.metrics.limited.fetch_add(1, Ordering::Relaxed);
            return Some(Failure::Limited(after));
        }
        let maintenance = &self.config.maintenance;
        let is_on = self.worker.shared.is_in_maintenance() && !is_in(&maintenance.allow, self.client_address);
        is_on.then_some(Failure::Maintenance(*maintenance.retry_after))
    }

    /// Checks the access rules of the route.
    async fn denied(&self, access: &Access, buffers: &mut RequestBuffers) -> Option<Failure> {
        if !access.permits(self.client_address) {
            return Some(Failure::Denied);
        }
        let login = access.login.as_ref()?;
        let received = buffers.client.filled();
        let mut given = self.head.headers.iter().filter(|header| header.field == Field::Authorization);
        // Of two, the server could read the other one.
        let authorization = given.next().filter(|_| given.next().is_none());
        let authorization = authorization.map(|header| header.value.in_buffer(received).to_vec());
        let timeout = *self.config.timeouts.queue;
        self.client.deadline.set(self.client.response_timeout(timeout));
        let check = login.users.check(authorization.as_deref(), self.client_address);
        match self.while_connected(buffers, check, Failure::PasswordsPending).await {
            Ok(Verdict::Granted) => None,
            Ok(Verdict::Refused) => Some(Failure::Unauthorized(login.challenge.clone())),
            Ok(Verdict::Busy) => Some(Failure::PasswordsPending),
            Err(failure) => Some(failure),
        }
    }

    /// Waits until the client's deadline, which is `late`, or until the client disconnects: a request without a client keeps no place
    /// in a queue. What the client sends meanwhile is read, as far as it fits.
    async fn while_connected<T>(
        &self,
        buffers: &mut RequestBuffers,
        operation: impl Future<Output = T>,
        late: Failure,
    ) -> Result<T, Failure> {
        let client = self.client;
        let ahead = match (self.streamed, self.decoder.is_done()) {
            (false, _) => &mut buffers.client,
            // What follows a buffered body.
            (true, true) => &mut buffers.body,
            // The rest of a body is only read together with its decoding.
            (true, false) => &mut Buffer::empty(),
        };
        let mut operation = pin!(operation);
        let mut late = Some(late);
        poll_fn(|context| {
            if let Poll::Ready(output) = operation.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            let had_ended = client.has_ended();
            if client.read_ahead(context, ahead).is_err() {
                return Poll::Ready(Err(Failure::ClientGone));
            }
            if client.has_ended() && !had_ended {
                client.deadline.set(client.response_timeout(Duration::MAX));
            }
            match late.take_if(|_| client.deadline.expired(context)) {
                Some(_) if client.has_ended() => Poll::Ready(Err(Failure::ClientGone)),
                Some(late) => Poll::Ready(Err(late)),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Whether the host can be requested by https: the first certificate of a domain may still be missing.
    fn has_https(&self, received: &[u8]) -> bool {
        let host = self.head.host.map(|host| host::without_port(host.in_buffer(received)));
        self.config.domains.is_empty()
            || self.worker.shared.bind_addresses.load().have_certificate(host.unwrap_or_default())
    }

    /// Tries servers of the backend pool until one responds or no rule allows a retry.
    async fn forward(&mut self, pool: &BackendPool, buffers: &mut RequestBuffers) -> Result<After, Failure> {
        if self.selected.buffers_requests() {
            Box::pin(self.buffer_request(buffers)).await?;
        }
        let hash_on = pool.hash_on.as_ref();
        let key = request::hash_key(hash_on, self.client_address, self.head, buffers.client.filled());
        let mut tried: SmallVec<[Arc<Server>; 4]> = SmallVec::new();
        let mut failure = None;
        let mut permit = None;
        let mut attempts = self.config.retries.attempts;
        loop {
            let in_flight = match pool.servers.select(key, &tried) {
                Selection::Server(in_flight) => in_flight,
                Selection::AtCapacity => self.wait_for_capacity(&pool.servers, key, &tried, buffers).await?,
                Selection::NoneAvailable => return Err(failure.unwrap_or(Failure::NotConnected)),
            };
            let attempt = Attempt { pool: &pool.servers, server: in_flight };
            self.server = Some(Arc::clone(&attempt));
            let failed = match self.try_server(&attempt, buffers).await {
                Ok(after) => return Ok(after),
                Err(failed) => failed,
            };
            if failed.is_servers_fault(self.progress.first_byte.get().is_some()) {
                pool.servers.request_failed(&attempt);
            }
            if !self.may_retry(&failed) || attempts == 0 {
                return Err(failed);
            }
            let standing = attempt.standing();
            if matches!(failed, Failure::ConnectTimeout) && standing == Standing::Unreachable {
                // Only unreachable servers are left: each retry would take another connect timeout.
                return Err(failed);
            }
            let had_connection =
                !matches!(failed, Failure::NotConnected | Failure::ConnectTimeout | Failure::OutOfPorts);
            if self.progress.accepted.get() && had_connection {
                attempts -= 1;
                // A server that is out of rotation (perhaps because of this failure) no longer works on the request,
                // so the retry adds no load. Otherwise it needs a permit of the retry budget.
                if standing <= Standing::Silent && permit.is_none() {
                    permit = pool.servers.retry(&self.config.retries);
                    if permit.is_none() {
                        return Err(failed);
                    }
                }
            }
            self.worker.shared.metrics.retries.fetch_add(1, Ordering::Relaxed);
            tried.push(Arc::clone(&attempt));
            failure = Some(failed);
        }
    }

    /// Whether the request may be retried on another server after this failure.
    fn may_retry(&self, failure: &Failure) -> bool {
        match failure {
            Failure::NotConnected | Failure::ConnectTimeout | Failure::OutOfPorts => true,
            Failure::Closed | Failure::ServerTimeout | Failure::CutOff | Failure::PipelineEnded => {
                self.progress.may_resend(self.head.method)
            }
            Failure::ClientGone
            | Failure::ClientTimeout
            | Failure::ClientRefused(_)
            | Failure::OutOfDescriptors
            | Failure::Invalid(_)
            | Failure::Limited(_)
            | Failure::Maintenance(_)
            | Failure::Denied
            | Failure::Unauthorized(_)
            | Failure::PasswordsPending
            | Failure::Redirect(_)
            | Failure::LastForward
            | Failure::NoRoute
            | Failure::NotFound
            | Failure::Forbidden
            | Failure::Unreadable(_)
            | Failure::NotBuffered(_)
            | Failure::MethodNotAllowed
            | Failure::Moved(_)
            | Failure::QueueFull
            | Failure::QueueTimeout => false,
        }
    }

    /// Queues the request until a server has capacity for it.
    async fn wait_for_capacity(
        &self,
        pool: &Servers,
        key: u64,
        tried: &[Arc<Server>],
        buffers: &mut RequestBuffers,
    ) -> Result<InFlight, Failure> {
        let Some(_permit) = pool.queue(self.config.limits.queue) else { return Err(Failure::QueueFull) };
        self.client.deadline.set(self.client.response_timeout(*self.config.timeouts.queue));
        loop {
            // Registered before the selection, so that no notification is missed in between.
            let mut freed = pin!(pool.capacity_freed.notified());
            freed.as_mut().enable();
            match pool.select(key, tried) {
                Selection::Server(in_flight) => return Ok(in_flight),
                Selection::NoneAvailable => return Err(Failure::NotConnected),
                Selection::AtCapacity => {}
            }
            self.while_connected(buffers, freed, Failure::QueueTimeout).await?;
        }
    }

    /// Sends the response for a failure, unless a response was already begun.
    async fn send_failure(&self, failure: &Failure, buffers: &mut RequestBuffers) -> After {
        let (status, message) = failure.reply();
        if self.progress.responding.get() {
            return After::Abort;
        }
        match failure {
            Failure::Unreadable(error) => self.log_unreadable(error),
            Failure::NotBuffered(error) => self.log_not_buffered(error),
            _ => {}
        }
        self.progress.status.set(status);
        if status == CLIENT_GONE {
            return After::Abort;
        }
        let page = match failure {
            Failure::Maintenance(_) => self.config.pages.of_maintenance(),
            _ => self.config.pages.of_status(status),
        };
        let prefers_html = || self.prefers_html(buffers.client.filled());
        let page = page
            .map_or(Page::None, |page| if prefers_html() { Page::Html(page) } else { Page::NotPreferred });
        let keep_alive = self.keeps_client();
        buffers.response.clear();
        let mut text = [0; 36];
        let id = self.id.text(buffers.client.filled(), &mut text);
        let reply = LocalReply {
            status,
            message,
            page,
            request_id: str::from_utf8(id).unwrap_or_default(),
            retry_after: match failure {
                Failure::Limited(after) | Failure::Maintenance(after) => Some(*after),
                _ => (status == 503).then_some(RETRY_AFTER),
            },
            location: match failure {
                Failure::Redirect(location) | Failure::Moved(location) => Some(location),
                _ => None,
            },
            authenticate: match failure {
                Failure::Unauthorized(challenge) => Some(challenge),
                _ => None,
            },
            allow: matches!(failure, Failure::MethodNotAllowed).then_some("GET, HEAD"),
            keep_alive,
        };
        let bytes = reply.write(&mut buffers.response, self.head.version, self.head.method);
        self.progress.bytes.set(bytes);
        match crate::local_reply::send(self.worker, self.client, buffers).await {
            Ok(()) if keep_alive => After::Keep,
            Ok(()) => After::Close,
            Err(_) => After::Abort,
        }
    }

    /// Whether the client gets error pages.
    fn prefers_html(&self, received: &[u8]) -> bool {
        pages::prefers_html(self.head.values_named(received, b"accept"))
    }

    /// Whether the client's connection is kept after a response of the balancer itself.
    fn keeps_client(&self) -> bool {
        // The unread rest of a body would be parsed as the next request.
        let whole = !self.streamed || self.progress.uploaded.get() || self.decoder.is_done();
        self.head.keep_alive && whole && !self.worker.is_stopping()
    }

    fn record(&self, buffers: &RequestBuffers, started: Instant) {
        let server = self.server.as_deref();
        let buffer = buffers.client.filled();
        let mut id = [0; 36];
        let record = AccessRecord {
            client: Some(self.client_address),
            request_id: self.id.text(buffer, &mut id),
            method: self.head.method_name.in_buffer(buffer),
            target: self.head.target.in_buffer(buffer),
            version: self.client.logged_version(self.head.version),
            status: self.progress.status.get(),
            bytes: self.progress.bytes.get(),
            duration: started.elapsed(),
            upstream: server.map_or("-", |server| &server.name),
            queue_duration: self.progress.sent.get().map(|sent| sent - started),
            upstream_duration: self.progress.first_byte.get(),
            stages: self.progress.stages.get(),
            referer: self.head.value(buffer, Field::Referer),
            user_agent: self.head.value(buffer, Field::UserAgent),
        };
        self.worker.record(&record);
        let (Some(tracer), Some(context)) = (&self.config.tracer, &self.trace) else { return };
        if tracer.wants(context, record.status, record.duration) {
            let state = self.trace_state(buffer);
            let host = self.head.host.map(|host| host.in_buffer(buffer));
            tracer.send(traces::spans(context, &record, &state, self.client.socket.is_tls(), host, server));
        }
    }

    /// The client's `tracestate`, which belongs to its `traceparent`.
    fn trace_state(&self, buffer: &[u8]) -> String {
        let is_continued = self.trace.as_ref().is_some_and(|trace| trace.parent.is_some());
        let lines = self.head.headers.iter().filter(|it| is_continued && it.field == Field::Tracestate);
        let values: Vec<_> =
            lines.map(|line| String::from_utf8_lossy(line.value.in_buffer(buffer))).collect();
        values.join(",")
    }
}
