//! A client's HTTP/1 connection: reads one request after another and runs each.
//!
//! An idle connection holds no buffer, only its socket and its deadline. This module does not depend on servers.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tercet_observe::event::BalancerEvent;
use tercet_observe::panic::caught;

use crate::challenge_response;
use crate::client::{After, Client};
use crate::config::Config;
use crate::exchange;
use crate::http1::{HeadLimits, Refusal, RequestHead, request};
use crate::local_reply;
use crate::request_buffers::RequestBuffers;
use crate::worker::Worker;

/// Serves a client until either side closes the connection; `buffers` holds the first bytes.
pub(crate) async fn serve(worker: Rc<Worker>, client: Box<Client>, buffers: Box<RequestBuffers>) {
    let mut left_over = Some(buffers);
    loop {
        let next = match left_over.take() {
            Some(buffers) => Some(buffers),
            None => next_bytes(&worker, &client, false).await,
        };
        let Some(mut buffers) = next else { return };
        // Boxed, so that an idle connection does not hold the state of a request.
        client.take_has_written();
        let after = caught(Box::pin(serve_request(&worker, &client, &mut buffers))).await;
        let after = match after {
            Ok(after) => after,
            Err(reason) => Box::pin(panicked(&worker, &client, &mut buffers, &reason)).await,
        };
        if after == After::Keep && !buffers.client.is_empty() {
            worker.buffer_pool.shrink(&mut buffers);
            left_over = Some(buffers);
        } else {
            worker.buffer_pool.give_back(buffers);
        }
        match after {
            After::Keep if client.has_ended() && left_over.is_none() => return,
            After::Keep => {}
            After::Close => return Box::pin(local_reply::linger(&client)).await,
            After::Abort => return,
        }
    }
}

/// How long a draining balancer waits for one more request on each connection. A client may be sending it already,
/// and could not know whether it was served. Its response has `Connection: close`.
const LAST_REQUEST: Duration = Duration::from_millis(500);

/// Waits for the first bytes of a connection; `None` when none come.
pub(crate) async fn first_bytes(worker: &Worker, client: &Client) -> Option<Box<RequestBuffers>> {
    next_bytes(worker, client, true).await
}

/// Waits for the first bytes of a request; `None` when none come.
async fn next_bytes(worker: &Worker, client: &Client, first: bool) -> Option<Box<RequestBuffers>> {
    let config = worker.config();
    client.deadline.set(if first { *config.timeouts.head } else { *config.timeouts.idle });
    // An idle connection must not keep an old configuration alive.
    drop(config);
    let mut is_draining = false;
    poll_fn(|context| {
        let mut buffers = worker.buffer_pool.take();
        if worker.is_stopping() && !is_draining {
            is_draining = true;
            client.deadline.set(LAST_REQUEST);
        }
        match client.socket.poll_read(context, buffers.client.spare()) {
            Poll::Ready(Ok(count)) if count > 0 => {
                buffers.client.advance(count);
                return Poll::Ready(Some(buffers));
            }
            Poll::Ready(_) => {}
            Poll::Pending if client.deadline.expired(context) => {}
            Poll::Pending => {
                worker.buffer_pool.give_back(buffers);
                return Poll::Pending;
            }
        }
        worker.buffer_pool.give_back(buffers);
        Poll::Ready(None)
    })
    .await
}

/// Logs a request that panicked, and responds with status 500 unless a response was already begun.
async fn panicked(worker: &Worker, client: &Client, buffers: &mut RequestBuffers, reason: &str) -> After {
    let address = client.address.to_string();
    worker.shared.events.event(BalancerEvent::RequestPanicked { client: &address, reason });
    if client.take_has_written() {
        return After::Abort;
    }
    let refusal = Refusal { status: 500, reason: "an error in the balancer" };
    local_reply::refuse(worker, client, buffers, refusal).await
}

async fn serve_request(worker: &Worker, client: &Client, buffers: &mut RequestBuffers) -> After {
    let config = worker.config();
    // Not matched on in place: a head is large, and the future's state would hold it twice.
    let mut refused = None;
    let head = read_head(client, &config, buffers).await.unwrap_or_else(|refusal| {
        refused = Some(refusal);
        None
    });
    if let Some(refusal) = refused {
        return local_reply::refuse(worker, client, buffers, refusal).await;
    }
    let Some(head) = &head else { return After::Abort };
    if challenge_response::concerns(&config, head, buffers.client.filled())
        && let Some(after) =
            Box::pin(challenge_response::respond(worker, client, &config, head, buffers)).await
    {
        return after;
    }
    exchange::run(worker, client, &config, head, buffers).await
}

/// Reads until the head is complete; `None` when the client disconnected.
async fn read_head(
    client: &Client,
    config: &Config,
    buffers: &mut RequestBuffers,
) -> Result<Option<RequestHead>, Refusal> {
    let limits = HeadLimits::of_requests(&config.limits);
    let mut seen = 0;
    loop {
        if crate::http1::worth_parsing(buffers.client.filled(), seen)
            && let Some(head) = request::parse(buffers.client.filled(), &limits)?
        {
            return Ok(Some(head));
        }
        if seen == 0 {
            client.deadline.set(*config.timeouts.head);
        }
        seen = buffers.client.len();
        if !buffers.client.ensure_spare(limits.head_bytes.max(buffers.client.capacity())) {
            return Err(Refusal { status: 431, reason: "the head is longer than allowed" });
        }
        let read = poll_fn(|context| match client.socket.poll_read(context, buffers.client.spare()) {
            Poll::Pending if client.deadline.expired(context) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
            Poll::Ready(read) => Poll::Ready(Some(read)),
        })
        .await;
        match read {
            None => return Err(Refusal { status: 408, reason: "the head took too long" }),
            Some(Ok(0) | Err(_)) => return Ok(None),
            Some(Ok(count)) => buffers.client.advance(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state_of<A, B, C, T>(_: fn(A, B, C) -> T) -> usize {
        size_of::<T>()
    }

    #[test]
    fn a_request_that_waits_is_small() {
        assert!(state_of(serve_request) <= 2496, "{} bytes", state_of(serve_request));
    }
}
