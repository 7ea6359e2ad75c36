//! Responses of the balancer itself: refusals and failures, as a status and a short JSON object, or an error page.

use std::borrow::Cow;
use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tercet_observe::request_id;

use crate::client::{After, Client};
use crate::http1::{Method, Refusal, Version, write};
use crate::request_buffers::RequestBuffers;
use crate::worker::Worker;

/// How long a lingering close lasts.
const LINGER_TIME: Duration = Duration::from_secs(2);
/// How many bytes a lingering close reads and discards.
const LINGER_BYTES: usize = 1 << 20;

/// A response of the balancer itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalReply<'a> {
    /// The status.
    pub(crate) status: u16,
    /// The error message for the client.
    pub(crate) message: &'a str,
    /// The error page in place of the message.
    pub(crate) page: Page<'a>,
    /// The request's id.
    pub(crate) request_id: &'a str,
    /// The value of `Retry-After`.
    pub(crate) retry_after: Option<Duration>,
    /// The value of `Location`.
    pub(crate) location: Option<&'a str>,
    /// The value of `WWW-Authenticate`.
    pub(crate) authenticate: Option<&'a str>,
    /// The value of `Allow`.
    pub(crate) allow: Option<&'static str>,
    /// Whether the connection is kept.
    pub(crate) keep_alive: bool,
}

/// The error page for a status.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Page<'a> {
    /// There is none.
    None,
    /// There is one, and the client prefers JSON.
    NotPreferred,
    Html(&'a [u8]),
}

impl<'a> LocalReply<'a> {
    /// The response to a request that was refused.
    pub(crate) fn refusing(refusal: Refusal, request_id: &'a str, keep_alive: bool) -> Self {
        Self {
            status: refusal.status,
            message: refusal.reason,
            page: Page::None,
            request_id,
            retry_after: None,
            location: None,
            authenticate: None,
            allow: None,
            keep_alive,
        }
    }

    /// Writes the response to a request of this version and method, and returns the length of its body.
    pub(crate) fn write(&self, output: &mut Vec<u8>, version: Version, method: Method) -> u64 {
        let json =
            || json!({ "status": self.status, "message": self.message, "request_id": self.request_id });
        let (media_type, body) = match self.page {
            Page::Html(page) => ("text/html; charset=utf-8", Cow::Borrowed(page)),
            Page::None | Page::NotPreferred => {
                ("application/json", format!("{}\n", json()).into_bytes().into())
            }
        };
        write::push_status_line(output, self.status, reason_phrase(self.status).as_bytes());
        write::push_line(output, b"Date", date().as_bytes());
        write::push_line(output, b"Content-Type", media_type.as_bytes());
        write::push_line(output, b"Content-Length", body.len().to_string().as_bytes());
        write::push_line(output, request_id::HEADER.as_bytes(), self.request_id.as_bytes());
        if !matches!(self.page, Page::None) {
            write::push_line(output, b"Vary", b"Accept");
        }
        if let Some(after) = self.retry_after {
            write::push_line(
                output,
                b"Retry-After",
                (after.as_secs_f64().ceil() as u64).max(1).to_string().as_bytes(),
            );
        }
        if let Some(location) = self.location {
            write::push_line(output, b"Location", location.as_bytes());
        }
        if let Some(challenge) = self.authenticate {
            write::push_line(output, b"WWW-Authenticate", challenge.as_bytes());
        }
        if let Some(allow) = self.allow {
            write::push_line(output, b"Allow", allow.as_bytes());
        }
        write::push_persistence(output, version, self.keep_alive);
        output.extend_from_slice(b"\r\n");
        if method == Method::Head {
            return 0;
        }
        output.extend_from_slice(&body);
        body.len() as u64
    }
}

/// Sends the response in `buffers.response`.
///
/// # Errors
/// Writing to the client failed or timed out.
pub(crate) async fn send(worker: &Worker, client: &Client, buffers: &RequestBuffers) -> std::io::Result<()> {
    let timeout = *worker.config().timeouts.send;
    client.in_time(client.write_all(&buffers.response, timeout)).await
}

/// Responds to a request that was refused, logs it, and ends the connection: the start of the next request is
/// unknown.
pub(crate) async fn refuse(
    worker: &Worker,
    client: &Client,
    buffers: &mut RequestBuffers,
    refusal: Refusal,
) -> After {
    buffers.response.clear();
    let id = request_id::fresh().to_string();
    let reply = LocalReply::refusing(refusal, &id, false);
    let bytes = reply.write(&mut buffers.response, Version::Http11, Method::Get);
    worker.refused(client, buffers.client.filled(), &id, refusal, bytes);
    match send(worker, client, buffers).await {
        Ok(()) => After::Close,
        Err(_) => After::Abort,
    }
}

/// Lingering close: lets the client read the response before the connection is closed. Closing while it still sends
/// would reset the connection and discard the response (RFC 9112 section 9.6).
pub(crate) async fn linger(client: &Client) {
    client.deadline.set(LINGER_TIME);
    let lingering = async {
        std::future::poll_fn(|context| client.socket.poll_shutdown(context)).await?;
        let mut read = 0;
        let mut sink = [0; 2048];
        while read < LINGER_BYTES {
            match std::future::poll_fn(|context| client.socket.poll_read(context, &mut sink)).await? {
                0 => break,
                count => read += count,
            }
        }
        Ok(())
    };
    // The connection is closed in any case.
    let _ = client.in_time(lingering).await;
}

/// The reason phrase of a status (RFC 9110 section 15).
pub(crate) fn reason_phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("")
}

/// The current value of the `Date` header (RFC 9110 section 6.6.1), cached for one second.
pub(crate) fn date() -> String {
    thread_local! {
        static CACHED: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
    }
    let now = SystemTime::now();
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    CACHED.with_borrow_mut(|(second, text)| {
        if *second != seconds {
            *second = seconds;
            *text = httpdate::fmt_http_date(now);
        }
        text.clone()
    })
}
