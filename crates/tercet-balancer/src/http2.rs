//! HTTP/2 connections of clients (RFC 9113), selected by ALPN under TLS, or with prior knowledge (h2c).
//!
//! The `h2` crate implements the protocol. Each stream is converted to an HTTP/1.1 request and written into a
//! [`pipe`](crate::pipe), whose other end is served like any HTTP/1 connection. So server selection, retries, limits and
//! logs are shared, and the rules of HTTP/1.1 are checked as well.

mod guard;
mod request;
mod response;
mod stream;
mod wire;

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use tercet_observe::event::BalancerEvent;

use self::guard::{Note, Notes};
use self::wire::{Fault, Wire};
use crate::client::Client;
use crate::config::Config;
use crate::local_reply;
use crate::stream_budget::ChargedBytes;
use crate::worker::Worker;

/// The client's connection preface (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The flow-control window of a stream, in bytes.
const STREAM_WINDOW: u32 = 256 << 10;
/// The flow-control window of a connection, in bytes.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Both windows when many connections are open: the initial value of RFC 9113 section 6.9.2.
const SMALL_WINDOW: u32 = 65_535;
/// The send buffer of a stream, in bytes.
const SEND_BUFFER: usize = 128 << 10;
/// How many streams a client may reset before their response until its connection is closed (rapid reset,
/// CVE-2023-44487). Each response that the client receives offsets one reset.
const MAX_CANCELLED: u32 = 100;
/// How long a connection stays open after GOAWAY, so that the client can receive it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether a connection that starts with these bytes uses HTTP/2; `None` when they are too few.
pub(crate) fn is_preface(bytes: &[u8]) -> Option<bool> {
    if bytes.len() >= PREFACE.len() {
        return Some(bytes.starts_with(PREFACE));
    }
    if PREFACE.starts_with(bytes) { None } else { Some(false) }
}

/// The streams of a connection.
#[derive(Debug, Default)]
struct Streams {
    open: Cell<usize>,
    /// Streams that were cancelled, minus those that got a response.
    cancelled: Cell<u32>,
    is_ending: Cell<bool>,
}

/// A request, the handle for its response, and the guard's note on it.
type Request = (http::Request<RecvStream>, SendResponse<ChargedBytes>, Option<Note>);

/// An event of a connection.
enum Event {
    Request(Box<Request>),
    /// The connection was closed or has failed.
    Ended,
    Idle,
    Stopping,
    /// The client violated the protocol.
    Fault(Reason),
}

/// Serves an HTTP/2 client until either side closes the connection; `early` are the bytes that were already read.
pub(crate) async fn serve(worker: Rc<Worker>, client: Client, early: Bytes) {
    let config = worker.config();
    let client = Rc::new(client);
    client.deadline.set(*config.timeouts.handshake);
    let fault = Fault::default();
    let (large_windows, budget) = (worker.http2.large_windows(), worker.http2.connection());
    let notes = Rc::new(Notes::default());
    let head_limit = *config.limits.head as usize;
    let wire = Wire::new(Rc::clone(&client), early, Rc::clone(&fault), head_limit, Rc::clone(&notes));
    let handshake = builder(&config, large_windows.is_some()).handshake(wire);
    let handshake = client.in_time(async { handshake.await.map_err(io::Error::other) });
    let Ok(mut connection) = handshake.await else {
        // RFC 9113 section 3.4: after an invalid preface, GOAWAY may be omitted.
        return local_reply::linger(&client).await;
    };
    let streams = Rc::new(Streams::default());
    client.deadline.set(*config.timeouts.head);
    loop {
        match next_event(&worker, &client, &mut connection, &streams, (&fault, &notes)).await {
            Event::Request(request) => {
                client.deadline.clear();
                streams.open.set(streams.open.get() + 1);
                let (worker, client, streams) = (Rc::clone(&worker), Rc::clone(&client), Rc::clone(&streams));
                let budget = Rc::clone(&budget);
                tokio::task::spawn_local(async move {
                    let idle_timeout = *worker.config().timeouts.idle;
                    let outcome = stream::serve(worker, &client, &budget, request).await;
                    streams.ended(outcome, &client, idle_timeout);
                });
            }
            Event::Ended => return,
            Event::Idle if streams.is_ending.get() => return,
            Event::Idle | Event::Stopping => {
                streams.is_ending.set(true);
                connection.graceful_shutdown();
                if streams.open.get() == 0 {
                    client.deadline.set(CLOSE_TIMEOUT);
                }
            }
            Event::Fault(reason) => {
                log_fault(&worker, &client, reason);
                connection.abrupt_shutdown(reason);
                client.deadline.set(CLOSE_TIMEOUT);
                let closed = poll_fn(|context| connection.poll_closed(context));
                // The connection is closed even if the client does not receive GOAWAY.
                let _ = client.in_time(async { closed.await.map_err(io::Error::other) }).await;
                drop(connection);
                return local_reply::linger(&client).await;
            }
        }
    }
}

async fn next_event(
    worker: &Worker,
    client: &Client,
    connection: &mut Connection<Wire, ChargedBytes>,
    streams: &Streams,
    (fault, notes): (&Fault, &Notes),
) -> Event {
    poll_fn(|context| {
        if streams.cancelled.get() > MAX_CANCELLED {
            return Poll::Ready(Event::Fault(Reason::ENHANCE_YOUR_CALM));
        }
        if let Poll::Ready(accepted) = connection.poll_accept(context) {
            return Poll::Ready(match accepted {
                Some(Ok((request, respond))) => {
                    let note = notes.take(respond.stream_id().as_u32());
                    Event::Request(Box::new((request, respond, note)))
                }
                Some(Err(error)) => {
                    if let Some(reason) = error.reason().filter(|_| error.is_library()) {
                        log_fault(worker, client, reason);
                    }
                    Event::Ended
                }
                None => Event::Ended,
            });
        }
        if let Some(reason) = fault.get() {
            return Poll::Ready(Event::Fault(reason));
        }
        if client.deadline.expired(context) {
            return Poll::Ready(Event::Idle);
        }
        if worker.is_stopping() && !streams.is_ending.get() {
            return Poll::Ready(Event::Stopping);
        }
        Poll::Pending
    })
    .await
}

/// Logs that a connection is closed because of a protocol violation.
fn log_fault(worker: &Worker, client: &Client, code: Reason) {
    let (client, reason) = (client.address.to_string(), code.description());
    let code = format!("{code:?}");
    worker.shared.events.event(BalancerEvent::ConnectionRefused { client: &client, code: &code, reason });
}

impl Streams {
    fn ended(&self, outcome: stream::Outcome, client: &Client, idle_timeout: Duration) {
        self.open.set(self.open.get() - 1);
        match outcome {
            stream::Outcome::Cancelled => self.cancelled.set(self.cancelled.get() + 1),
            stream::Outcome::Completed => self.cancelled.set(self.cancelled.get().saturating_sub(1)),
        }
        if self.open.get() == 0 {
            client.deadline.set(if self.is_ending.get() { CLOSE_TIMEOUT } else { idle_timeout });
        }
    }
}

fn builder(config: &Config, large_windows: bool) -> Builder {
    let mut builder = Builder::new();
    let (stream, connection) =
        if large_windows { (STREAM_WINDOW, CONNECTION_WINDOW) } else { (SMALL_WINDOW, SMALL_WINDOW) };
    builder
        .initial_window_size(stream)
        .initial_connection_window_size(connection)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(config.limits.http2_streams)
        .max_header_list_size(*config.limits.head as u32);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_distinguished_from_a_request() {
        for end in 0..PREFACE.len() {
            assert_eq!(is_preface(&PREFACE[..end]), None);
        }
        assert_eq!(is_preface(&[PREFACE, b"\0\0"].concat()), Some(true));
        assert_eq!(is_preface(b"P"), None);
        assert_eq!(is_preface(b"POST / HTTP/1.1\r\n"), Some(false));
        assert_eq!(is_preface(b"PRI * HTTP/2.0\r\n\r\nXX"), Some(false));
    }
}
