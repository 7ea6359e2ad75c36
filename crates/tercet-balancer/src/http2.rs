//! HTTP/2 from clients (RFC 9113), agreed on by ALPN under TLS or known beforehand (h2c).
//!
//! The `h2` crate speaks the protocol. Each stream becomes a request of its own on the way all requests take: it is
//! written as HTTP/1.1 into a [`pipe`], at whose other end a connection is served like any other. So
//! routing, retries, limits and logs are the same, and the rules of HTTP/1.1 are checked once more.

pub(crate) mod allowance;
mod guard;
pub(crate) mod pipe;
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

use self::allowance::Held;
use self::guard::{Note, Notes};
use self::wire::{Fault, Wire};
use crate::answer;
use crate::client::Client;
use crate::config::Config;
use crate::worker::Worker;

/// What every HTTP/2 connection starts with (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of one stream that may be on their way to us.
const STREAM_WINDOW: u32 = 256 << 10;
/// Bytes of all streams of a connection that may be on their way to us.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Either when many connections are open: what RFC 9113 section 6.9.2 starts with.
const NARROW_WINDOW: u32 = 65_535;
/// Bytes of one stream that wait to be sent.
const SEND_BUFFER: usize = 128 << 10;
/// Streams a client may break off without seeing an answer before its connection is closed; each answer it waits
/// for makes up for one. Breaking off is cheap for a client and a request for a server (CVE-2023-44487).
const BROKEN_OFF: u32 = 100;
/// How long a connection that is being closed is given to take what it is told.
const FAREWELL: Duration = Duration::from_secs(2);

/// Whether a connection that starts with these bytes speaks HTTP/2; `None` when too few are there to tell.
pub(crate) fn is_preface(bytes: &[u8]) -> Option<bool> {
    if bytes.len() >= PREFACE.len() {
        return Some(bytes.starts_with(PREFACE));
    }
    if PREFACE.starts_with(bytes) { None } else { Some(false) }
}

/// What the streams of a connection and the connection know of each other.
#[derive(Debug, Default)]
struct Streams {
    live: Cell<usize>,
    broken_off: Cell<u32>,
    is_ending: Cell<bool>,
}

/// A request, what answers it, and what the guard knows of it.
type Request = (http::Request<RecvStream>, SendResponse<Held>, Option<Note>);

/// What a connection has to act upon.
enum Event {
    Request(Box<Request>),
    /// The client, or its connection, is gone.
    Ended,
    Idle,
    Stopping,
    /// The client did what it must not.
    Fault(Reason),
}

/// Serves an HTTP/2 client, of which `early` has been read already, until either side has had enough.
pub(crate) async fn serve(worker: Rc<Worker>, client: Client, early: Bytes) {
    let config = worker.config();
    let client = Rc::new(client);
    client.watch.set(config.timeouts.handshake);
    let fault = Fault::default();
    let (wide, allowance) = (worker.http2.wide(), worker.http2.connection());
    let notes = Rc::new(Notes::default());
    let most = config.limits.head as usize;
    let wire = Wire::new(Rc::clone(&client), early, Rc::clone(&fault), most, Rc::clone(&notes));
    let handshake = builder(&config, wide.is_some()).handshake(wire);
    let handshake = client.in_time(async { handshake.await.map_err(io::Error::other) });
    let Ok(mut connection) = handshake.await else {
        // RFC 9113 section 3.4: who starts otherwise than agreed on is not worth a GOAWAY, but an orderly end.
        return answer::linger(&client).await;
    };
    let streams = Rc::new(Streams::default());
    client.watch.set(config.timeouts.head);
    loop {
        match next_event(&worker, &client, &mut connection, &streams, (&fault, &notes)).await {
            Event::Request(request) => {
                client.watch.clear();
                streams.live.set(streams.live.get() + 1);
                let (worker, client, streams) = (Rc::clone(&worker), Rc::clone(&client), Rc::clone(&streams));
                let allowance = Rc::clone(&allowance);
                tokio::task::spawn_local(async move {
                    let timeouts = worker.config().timeouts.idle;
                    let outcome = stream::serve(worker, &client, &allowance, request).await;
                    streams.ended(outcome, &client, timeouts);
                });
            }
            Event::Ended => return,
            Event::Idle if streams.is_ending.get() => return,
            Event::Idle | Event::Stopping => {
                streams.is_ending.set(true);
                connection.graceful_shutdown();
                if streams.live.get() == 0 {
                    client.watch.set(FAREWELL);
                }
            }
            Event::Fault(reason) => {
                tell(&worker, &client, reason);
                connection.abrupt_shutdown(reason);
                client.watch.set(FAREWELL);
                let closed = poll_fn(|context| connection.poll_closed(context));
                // Whether it took the news or not, it is closed.
                let _ = client.in_time(async { closed.await.map_err(io::Error::other) }).await;
                drop(connection);
                return answer::linger(&client).await;
            }
        }
    }
}

async fn next_event(
    worker: &Worker,
    client: &Client,
    connection: &mut Connection<Wire, Held>,
    streams: &Streams,
    (fault, notes): (&Fault, &Notes),
) -> Event {
    poll_fn(|context| {
        if streams.broken_off.get() > BROKEN_OFF {
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
                        tell(worker, client, reason);
                    }
                    Event::Ended
                }
                None => Event::Ended,
            });
        }
        if let Some(reason) = fault.get() {
            return Poll::Ready(Event::Fault(reason));
        }
        if client.watch.expired(context) {
            return Poll::Ready(Event::Idle);
        }
        if worker.is_stopping() && !streams.is_ending.get() {
            return Poll::Ready(Event::Stopping);
        }
        Poll::Pending
    })
    .await
}

/// Logs that a connection is ended for what its client did.
fn tell(worker: &Worker, client: &Client, code: Reason) {
    let (client, reason) = (client.address.to_string(), code.description());
    let code = format!("{code:?}");
    worker.shared.events.event(BalancerEvent::ConnectionRefused { client: &client, code: &code, reason });
}

impl Streams {
    fn ended(&self, outcome: stream::Outcome, client: &Client, idle: Duration) {
        self.live.set(self.live.get() - 1);
        match outcome {
            stream::Outcome::BrokenOff => self.broken_off.set(self.broken_off.get() + 1),
            stream::Outcome::Answered => self.broken_off.set(self.broken_off.get().saturating_sub(1)),
        }
        if self.live.get() == 0 {
            client.watch.set(if self.is_ending.get() { FAREWELL } else { idle });
        }
    }
}

fn builder(config: &Config, is_wide: bool) -> Builder {
    let mut builder = Builder::new();
    let (stream, connection) =
        if is_wide { (STREAM_WINDOW, CONNECTION_WINDOW) } else { (NARROW_WINDOW, NARROW_WINDOW) };
    builder
        .initial_window_size(stream)
        .initial_connection_window_size(connection)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(config.limits.http2_streams)
        .max_header_list_size(config.limits.head as u32);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_told_from_a_request() {
        for end in 0..PREFACE.len() {
            assert_eq!(is_preface(&PREFACE[..end]), None);
        }
        assert_eq!(is_preface(&[PREFACE, b"\0\0"].concat()), Some(true));
        assert_eq!(is_preface(b"P"), None);
        assert_eq!(is_preface(b"POST / HTTP/1.1\r\n"), Some(false));
        assert_eq!(is_preface(b"PRI * HTTP/2.0\r\n\r\nXX"), Some(false));
    }
}
