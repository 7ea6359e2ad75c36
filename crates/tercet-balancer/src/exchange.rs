//! Runs one request: selects a server, forwards the request, and passes the answer back.
//!
//! The rules of trying again live here. A request that no server can have seen goes to the next server,
//! whatever its method; one that a server may have seen is repeated only if its method is idempotent, its
//! body is still at hand, nothing of an answer has gone out, and the retry budget allows it. The budget is
//! for load: what a server that is out of rotation leaves behind is not charged to it. What a server was given stays
//! there until it answers, its time is over or its connection breaks, whatever checks say meanwhile.

mod attempt;
mod download;
mod failure;
mod progress;
mod request;
mod tunnel;
mod upload;

use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use smallvec::SmallVec;
use tercet_observe::AccessRecord;

use self::failure::{CLIENT_GONE, Failure};
use self::progress::Progress;
use crate::answer::Answer;
use crate::client::{After, Client};
use crate::config::Config;
use crate::forwarded::RequestId;
use crate::http1::{Decoder, Field, Refusal, RequestHead};
use crate::request_buffers::RequestBuffers;
use crate::rotation::{InFlight, Selection};
use crate::server::{Server, Standing};
use crate::worker::Worker;

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

/// How long clients are told to stay away when no server can take a request.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Takes the request at the front of `buffers.client` to a server and its answer back.
pub(crate) async fn run(
    worker: &Worker,
    client: &Client,
    config: &Config,
    head: &RequestHead,
    buffers: &mut RequestBuffers,
) -> After {
    let started = Instant::now();
    let composed = match request::compose(client, config, head, buffers) {
        Ok(composed) => composed,
        Err(refusal) => return crate::answer::refuse(worker, client, buffers, refusal).await,
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
    let outcome = match exchange.settle_here(buffers, started) {
        Some(reason) => Err(reason),
        None => exchange.carry(buffers, &mut server).await,
    };
    let after = match outcome {
        Ok(after) => after,
        Err(failure) => exchange.answer_failure(&failure, buffers).await,
    };
    exchange.record(buffers, server.as_deref(), started);
    if exchange.streamed {
        buffers.client.clear();
        buffers.client.extend(buffers.body.filled());
        buffers.body.clear();
    } else {
        buffers.client.consume(head.length + composed.body_taken);
    }
    after
}

impl Exchange<'_> {
    /// Why this request is none for a server, if it is none.
    fn settle_here(&self, buffers: &RequestBuffers, now: Instant) -> Option<Failure> {
        let received = buffers.client.filled();
        if self.client.bind_address.listen.redirect_to_https {
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
        buffers: &mut RequestBuffers,
        server: &mut Option<Arc<Server>>,
    ) -> Result<After, Failure> {
        let key = request::hash_key(self.config, self.asker, self.head, buffers.client.filled());
        let mut tried: SmallVec<[Arc<Server>; 4]> = SmallVec::new();
        let mut failure = None;
        let mut repeating = None;
        let mut attempts = self.config.retries.attempts;
        loop {
            let turn = match self.worker.shared.servers.pick(key, &tried) {
                Selection::Server(turn) => turn,
                Selection::AtCapacity => self.wait_for_room(key, &tried).await?,
                Selection::NoneAvailable => return Err(failure.unwrap_or(Failure::NotConnected)),
            };
            *server = Some(Arc::clone(&turn));
            let failed = match self.try_server(&turn, buffers).await {
                Ok(after) => return Ok(after),
                Err(failed) => failed,
            };
            if failed.is_servers_fault(self.progress.first_byte.get().is_some()) {
                self.worker.shared.servers.request_failed(&turn);
            }
            if !self.may_repeat(&failed) || attempts == 0 {
                return Err(failed);
            }
            let standing = turn.standing();
            if matches!(failed, Failure::ConnectTimeout) && standing == Standing::Unreachable {
                // That was the last resort. Waiting as long for the next one of its kind helps nobody.
                return Err(failed);
            }
            let had_connection =
                !matches!(failed, Failure::NotConnected | Failure::ConnectTimeout | Failure::OutOfPorts);
            if self.progress.accepted.get() && had_connection {
                attempts -= 1;
                // A server that is out of rotation, by this very failure perhaps, does no work for the request any
                // more: the next one gets what it would have got anyway. Elsewhere the budget has to allow it.
                if standing <= Standing::Silent && repeating.is_none() {
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

    /// Whether the request may go to another server after this failure.
    fn may_repeat(&self, failure: &Failure) -> bool {
        match failure {
            Failure::NotConnected | Failure::ConnectTimeout | Failure::OutOfPorts => true,
            Failure::Closed | Failure::ServerTimeout | Failure::CutOff | Failure::Displaced => {
                self.progress.may_send_again(self.head.method)
            }
            Failure::ClientGone
            | Failure::ClientTimeout
            | Failure::ClientRefused(_)
            | Failure::OutOfDescriptors
            | Failure::Invalid(_)
            | Failure::Limited(_)
            | Failure::Redirect(_)
            | Failure::LastForward
            | Failure::QueueFull
            | Failure::QueueTimeout => false,
        }
    }

    /// Waits until a server has room for one more request.
    async fn wait_for_room(&self, key: u64, tried: &[Arc<Server>]) -> Result<InFlight, Failure> {
        let shared = &self.worker.shared;
        let Some(_place) = shared.queue(self.config.limits.queue) else { return Err(Failure::QueueFull) };
        self.client.watch.set(self.config.timeouts.queue);
        loop {
            // Registered before looking, so that room made in between is not missed.
            let mut room = pin!(shared.servers.room.notified());
            room.as_mut().enable();
            match shared.servers.pick(key, tried) {
                Selection::Server(turn) => return Ok(turn),
                Selection::NoneAvailable => return Err(Failure::NotConnected),
                Selection::AtCapacity => {}
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
    async fn answer_failure(&self, failure: &Failure, buffers: &mut RequestBuffers) -> After {
        let (status, message) = failure.answer();
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
        buffers.response.clear();
        let mut text = [0; 36];
        let id = self.id.text(buffers.client.filled(), &mut text);
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
        let bytes = answer.write(&mut buffers.response, self.head.version, self.head.method);
        self.progress.bytes.set(bytes);
        match crate::answer::send(self.worker, self.client, buffers).await {
            Ok(()) if keep_alive => After::Keep,
            Ok(()) => After::Close,
            Err(_) => After::Abort,
        }
    }

    fn record(&self, buffers: &RequestBuffers, server: Option<&Server>, started: Instant) {
        let buffer = buffers.client.filled();
        self.worker.record(&AccessRecord {
            client: Some(self.asker),
            request_id: self.id.text(buffer, &mut [0; 36]),
            method: self.head.method_name.in_buffer(buffer),
            target: self.head.target.in_buffer(buffer),
            version: self.client.spoken(self.head.version),
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
