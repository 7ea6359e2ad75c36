//! A client's connection, from its first byte to its last: requests one after another.
//!
//! While it waits for a request it holds no buffer, only its socket and a place on the clock. It knows how a
//! request is taken off the wire, not where it goes.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use crate::answer::{self, Answer};
use crate::client::Client;
use crate::config::Config;
use crate::exchange::{self, After};
use crate::http1::{HeadLimits, Method, Refusal, RequestHead, Version, request};
use crate::http2;
use crate::scratch::Scratch;
use crate::worker::Worker;

/// Serves a client until either side has had enough.
pub(crate) async fn serve(worker: Rc<Worker>, client: Client) {
    let mut left_over = None;
    let mut first = true;
    loop {
        let Some(mut scratch) = next_scratch(&worker, &client, left_over.take(), first).await else { return };
        if first && speaks_http2(&client, &mut scratch).await {
            let early = Bytes::copy_from_slice(scratch.client.filled());
            worker.stock.give_back(scratch);
            return Box::pin(http2::serve(worker, client, early)).await;
        }
        first = false;
        // Boxed, so that the state of a request is there only while there is one: an idle connection is small.
        let after = Box::pin(serve_request(&worker, &client, &mut scratch)).await;
        if after == After::Keep && !scratch.client.is_empty() {
            worker.stock.shrink(&mut scratch);
            left_over = Some(scratch);
        } else {
            worker.stock.give_back(scratch);
        }
        match after {
            After::Keep if client.has_ended() && left_over.is_none() => return,
            After::Keep => {}
            After::Close => return Box::pin(answer::linger(&client)).await,
            After::Abort => return,
        }
    }
}

/// How long a balancer that stops waits for one more request on each connection: whoever has just connected, or asks
/// one after another, is about to send it, and could not tell whether it was served. Its answer says that it is the last.
const LAST_REQUEST: Duration = Duration::from_millis(500);

/// Waits for the first bytes of a request; `None` when none comes.
async fn next_scratch(
    worker: &Worker,
    client: &Client,
    left_over: Option<Box<Scratch>>,
    first: bool,
) -> Option<Box<Scratch>> {
    if left_over.is_some() {
        return left_over;
    }
    let config = worker.config();
    client.watch.set(if first { config.timeouts.head } else { config.timeouts.idle });
    // An idle connection must not hold on to a configuration that is reloaded meanwhile.
    drop(config);
    let mut hurries = false;
    poll_fn(|context| {
        let mut scratch = worker.stock.take();
        if worker.is_stopping() && !hurries {
            hurries = true;
            client.watch.set(LAST_REQUEST);
        }
        match client.socket.poll_read(context, scratch.client.spare()) {
            Poll::Ready(Ok(count)) if count > 0 => {
                scratch.client.advance(count);
                return Poll::Ready(Some(scratch));
            }
            Poll::Ready(_) => {}
            Poll::Pending if client.watch.expired(context) => {}
            Poll::Pending => {
                worker.stock.give_back(scratch);
                return Poll::Pending;
            }
        }
        worker.stock.give_back(scratch);
        Poll::Ready(None)
    })
    .await
}

/// Whether the client starts as HTTP/2 does, without having asked (RFC 9113 section 3.3).
async fn speaks_http2(client: &Client, scratch: &mut Scratch) -> bool {
    loop {
        if let Some(is_preface) = http2::is_preface(scratch.client.filled()) {
            return is_preface && !client.socket.is_stream();
        }
        let read = poll_fn(|context| client.socket.poll_read(context, scratch.client.spare()));
        match client.in_time(read).await {
            Ok(count) if count > 0 => scratch.client.advance(count),
            // Whoever reads next finds the same.
            Ok(_) | Err(_) => return false,
        }
    }
}

async fn serve_request(worker: &Worker, client: &Client, scratch: &mut Scratch) -> After {
    let config = worker.config();
    match read_head(client, &config, scratch).await {
        Ok(Some(head)) => exchange::run(worker, client, &config, &head, scratch).await,
        Ok(None) => After::Abort,
        Err(refusal) => refuse(worker, client, scratch, refusal).await,
    }
}

/// Reads until the head is whole; `None` when the client broke off.
async fn read_head(
    client: &Client,
    config: &Config,
    scratch: &mut Scratch,
) -> Result<Option<RequestHead>, Refusal> {
    let limits = HeadLimits {
        head_bytes: config.limits.head as usize,
        headers: config.limits.headers,
        target_bytes: config.limits.target as usize,
        body_bytes: config.limits.body,
    };
    let mut seen = 0;
    loop {
        if crate::http1::worth_parsing(scratch.client.filled(), seen)
            && let Some(head) = request::parse(scratch.client.filled(), &limits)?
        {
            return Ok(Some(head));
        }
        if seen == 0 {
            client.watch.set(config.timeouts.head);
        }
        seen = scratch.client.len();
        if !scratch.client.make_room(limits.head_bytes.max(scratch.client.capacity())) {
            return Err(Refusal { status: 431, reason: "the head is longer than allowed" });
        }
        let read = poll_fn(|context| match client.socket.poll_read(context, scratch.client.spare()) {
            Poll::Pending if client.watch.expired(context) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
            Poll::Ready(read) => Poll::Ready(Some(read)),
        })
        .await;
        match read {
            None => return Err(Refusal { status: 408, reason: "the head took too long" }),
            Some(Ok(0) | Err(_)) => return Ok(None),
            Some(Ok(count)) => scratch.client.advance(count),
        }
    }
}

/// Answers a request that was not understood, logs it, and ends the connection: nobody knows where the next
/// request would start.
pub(crate) async fn refuse(
    worker: &Worker,
    client: &Client,
    scratch: &mut Scratch,
    refusal: Refusal,
) -> After {
    scratch.response.clear();
    let answer = Answer {
        status: refusal.status,
        message: refusal.reason,
        request_id: None,
        retry_after: None,
        location: None,
        keep_alive: false,
    };
    let bytes = answer.write(&mut scratch.response, Version::Http11, Method::Get);
    worker.refused(client, refusal, bytes);
    match answer::send(worker, client, scratch).await {
        Ok(()) => After::Close,
        Err(_) => After::Abort,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state_of<T>(_: fn(Rc<Worker>, Client) -> T) -> usize {
        size_of::<T>()
    }

    #[test]
    fn an_idle_connection_is_small() {
        assert!(state_of(serve) <= 512, "{} bytes", state_of(serve));
    }
}
