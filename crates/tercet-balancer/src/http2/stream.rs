//! One HTTP/2 stream: forwards its request through a pipe, and relays the response, both directions concurrently.

use std::future::{Future as _, poll_fn};
use std::io::Write as _;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use tercet_observe::request_id;

use super::CLOSE_TIMEOUT;
use super::guard::{Note, Refused};
use super::request::{self, Body, Malformed};
use super::response;
use crate::client::Client;
use crate::connection;
use crate::http1::response::{RequestInfo, parse};
use crate::http1::{Decoder, Framing, HeadLimits, Method, Refusal, Version};
use crate::local_reply::LocalReply;
use crate::pipe::{self, Pipe};
use crate::socket::Socket;
use crate::stream_budget::{Charge, ChargedBytes, ConnectionBudget, Outstanding};
use crate::worker::Worker;

/// The limits for parsing heads that the balancer itself has written: effectively none.
const LIMITS: HeadLimits =
    HeadLimits { head_bytes: 4 << 20, headers: 2048, target_bytes: 0, body_bytes: u64::MAX };

/// How many bytes of a request are received after its response until its stream is reset: less than the smallest
/// flow-control window, so that a long request is reset and does not wait for the window to be extended.
const MAX_DISCARDED: usize = 32 << 10;

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The client got a response, or a stream error of the balancer.
    Completed,
    /// The client reset the stream before the response, or its request was malformed.
    Cancelled,
}

/// Why a stream failed.
#[derive(Debug)]
enum Failure {
    /// The client reset it, or its connection was closed.
    ClientGone,
    /// There is no response, or an incomplete one.
    Broken,
}

impl From<h2::Error> for Failure {
    fn from(_: h2::Error) -> Self {
        Self::ClientGone
    }
}

/// Serves one request of `client`.
pub(super) async fn serve(
    worker: Rc<Worker>,
    client: &Client,
    budget: &Rc<ConnectionBudget>,
    request: Box<super::Request>,
) -> Outcome {
    let (request, mut respond, note) = *request;
    let (parts, mut body) = request.into_parts();
    let mut head = Vec::with_capacity(512);
    let framing = match write(&mut head, &parts, note, body.is_end_stream()) {
        Ok(framing) => framing,
        Err(refused) => return Box::pin(refuse(&worker, client, budget, respond, &refused)).await,
    };
    let request_info = RequestInfo { method: Method::of(parts.method.as_str().as_bytes()), upgrade: false };
    drop(parts);
    let (stream_end, exchange_end) = pipe::pair(budget);
    let deadline = worker.clock.deadline();
    let socket = Socket::pipe(exchange_end, client.socket.is_tls());
    let stream = Box::new(Client::new(socket, deadline, client.address, Arc::clone(&client.bind_address)));
    let exchange = async {
        if let Some(buffers) = connection::first_bytes(&worker, &stream).await {
            connection::serve(Rc::clone(&worker), stream, buffers).await;
        }
    };
    let request_body = &mut body;
    let relay = async move {
        let result =
            relay(&stream_end, budget, head, framing, request_body, &mut respond, request_info).await;
        if let Err(Failure::Broken) = result {
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
        // Drops this end of the pipe, so that the exchange detects that the client has disconnected.
        result
    };
    match tokio::join!(relay, exchange) {
        (Err(Failure::ClientGone), ()) => Outcome::Cancelled,
        (Err(Failure::Broken), ()) => Outcome::Completed,
        (Ok(()), ()) => {
            if !body.is_end_stream() {
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, discard(&mut body)).await;
            }
            Outcome::Completed
        }
    }
}

/// Receives the rest of a request whose response is complete, up to [`MAX_DISCARDED`] bytes. Dropping `body` before its
/// end resets the stream with `NO_ERROR` (RFC 9113 section 8.1), which clients such as curl 7.88 report as a failure
/// while they are still sending, although they have the response.
async fn discard(body: &mut RecvStream) {
    let mut discarded = 0;
    while discarded <= MAX_DISCARDED
        && let Some(Ok(data)) = body.data().await
    {
        discarded += data.len();
    }
}

/// Writes the head of a request, with the guard's note on it.
///
/// # Errors
/// The request is refused.
fn write(
    head: &mut Vec<u8>,
    parts: &http::request::Parts,
    note: Option<Note>,
    has_ended: bool,
) -> Result<Body, Rc<Refused>> {
    let replaced = match note {
        Some(Note::Refused(refused)) => return Err(refused),
        Some(Note::Path(replaced)) => Some(replaced),
        None => None,
    };
    request::write(head, parts, replaced.as_deref(), has_ended).map_err(|Malformed(reason)| {
        let [method, target] = [parts.method.as_str(), parts.uri.path()].map(|text| text.as_bytes().into());
        Rc::new(Refused { refusal: Refusal::bad(reason), method, target, has_ended: false })
    })
}

/// Responds to a malformed request, logs it, and resets its stream (RFC 9113 section 8.1.1).
async fn refuse(
    worker: &Worker,
    client: &Client,
    budget: &Rc<ConnectionBudget>,
    mut respond: SendResponse<ChargedBytes>,
    refused: &Refused,
) -> Outcome {
    let Refused { refusal, method, target, has_ended } = refused;
    let id = request_id::fresh().to_string();
    let reply = LocalReply::refusing(*refusal, &id, true);
    let request_info = RequestInfo { method: Method::of(method), upgrade: false };
    let mut bytes = Vec::new();
    let length = reply.write(&mut bytes, Version::Http11, request_info.method);
    worker.refused_as(client, (method, target, "HTTP/2.0"), &id, *refusal, length);
    let outstanding = Rc::default();
    let sent = async {
        let head = parse(&bytes, &LIMITS, request_info).ok().flatten().ok_or(Failure::Broken)?;
        let response = response::convert(&bytes, &head).ok_or(Failure::Broken)?;
        let content = Bytes::copy_from_slice(&bytes[head.length..]);
        let mut stream = respond.send_response(response, content.is_empty())?;
        if content.is_empty() {
            return Ok(());
        }
        let content = ChargedBytes::new(content, Charge::new(budget), &outstanding);
        // If the client has not ended the stream, it is left open, so that it can be reset.
        stream.send_data(content, *has_ended)?;
        // A reset discards bytes that are not written yet.
        let written = poll_fn(|context| outstanding.poll_written(context));
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, written).await;
        stream.send_reset(Reason::PROTOCOL_ERROR);
        Ok::<_, Failure>(())
    };
    if sent.await.is_err() {
        respond.send_reset(Reason::PROTOCOL_ERROR);
    }
    Outcome::Cancelled
}

/// Writes the request into the pipe and relays the response from it. Returns when the response is complete, even if
/// the request is not (RFC 9113 section 8.1).
async fn relay(
    pipe: &Pipe,
    budget: &Rc<ConnectionBudget>,
    head: Vec<u8>,
    framing: Body,
    body: &mut RecvStream,
    respond: &mut SendResponse<ChargedBytes>,
    request_info: RequestInfo,
) -> Result<(), Failure> {
    let mut upload = pin!(upload(pipe, head, framing, body));
    let mut download = pin!(download(pipe, budget, respond, request_info));
    let mut uploading = true;
    poll_fn(|context| {
        if uploading && let Poll::Ready(uploaded) = upload.as_mut().poll(context) {
            match uploaded {
                // If the exchange has stopped reading the request, the download has a response or fails.
                Ok(()) | Err(Failure::Broken) => uploading = false,
                Err(Failure::ClientGone) => return Poll::Ready(Err(Failure::ClientGone)),
            }
        }
        download.as_mut().poll(context)
    })
    .await
}

async fn upload(pipe: &Pipe, head: Vec<u8>, framing: Body, body: &mut RecvStream) -> Result<(), Failure> {
    write_all(pipe, &head).await?;
    drop(head);
    if framing == Body::None {
        return Ok(());
    }
    let mut line = Vec::with_capacity(16);
    while let Some(data) = body.data().await {
        let data = data?;
        if framing == Body::Chunked && !data.is_empty() {
            line.clear();
            write!(line, "{:x}\r\n", data.len()).expect("writing to a Vec cannot fail");
            write_all(pipe, &line).await?;
            write_all(pipe, &data).await?;
            write_all(pipe, b"\r\n").await?;
        } else {
            write_all(pipe, &data).await?;
        }
        // The flow-control window is only extended by bytes that were forwarded.
        body.flow_control().release_capacity(data.len())?;
    }
    let trailers = body.trailers().await?;
    if framing == Body::Chunked {
        let mut end = b"0\r\n".to_vec();
        for (name, value) in trailers.iter().flatten() {
            crate::http1::write::push_line(&mut end, name.as_str().as_bytes(), value.as_bytes());
        }
        end.extend_from_slice(b"\r\n");
        write_all(pipe, &end).await?;
    }
    Ok(())
}

async fn download(
    pipe: &Pipe,
    budget: &Rc<ConnectionBudget>,
    respond: &mut SendResponse<ChargedBytes>,
    request_info: RequestInfo,
) -> Result<(), Failure> {
    let mut buffer = ResponseBuffer { bytes: BytesMut::new(), charge: Charge::new(budget) };
    let (mut stream, framing) = loop {
        if let Some(begun) = begin(&mut buffer, respond, request_info)? {
            break begun;
        }
        fill(pipe, &mut buffer, |context| respond.poll_reset(context)).await?;
    };
    send_body(pipe, &mut buffer, framing, &mut stream).await
}

/// Sends the heads in the buffer: `None` when the final one is incomplete. Not async, so that no future's state holds a
/// head, which is large.
fn begin(
    buffer: &mut ResponseBuffer,
    respond: &mut SendResponse<ChargedBytes>,
    request_info: RequestInfo,
) -> Result<Option<(SendStream<ChargedBytes>, Framing)>, Failure> {
    while let Some(head) = parse(&buffer.bytes, &LIMITS, request_info).map_err(|_| Failure::Broken)? {
        let response = response::convert(&buffer.bytes, &head).ok_or(Failure::Broken)?;
        drop(buffer.split(head.length));
        if head.is_interim() {
            respond.send_informational(response)?;
        } else {
            let stream = respond.send_response(response, head.framing == Framing::None)?;
            return Ok(Some((stream, head.framing)));
        }
    }
    Ok(None)
}

async fn send_body(
    pipe: &Pipe,
    buffer: &mut ResponseBuffer,
    framing: Framing,
    stream: &mut SendStream<ChargedBytes>,
) -> Result<(), Failure> {
    let outstanding = Rc::default();
    let mut decoder = Decoder::new(framing, u64::MAX);
    while !decoder.is_done() {
        let piece = decoder.decode(&buffer.bytes).map_err(|_| Failure::Broken)?;
        let (bytes, mut charge) = buffer.split(piece.consumed);
        let content = bytes.slice(piece.content.clone());
        drop(charge.split(bytes.len() - content.len()));
        let ends = piece.done && piece.trailers.is_empty();
        if !content.is_empty() {
            send(stream, content, charge, ends, &outstanding).await?;
        } else if ends {
            stream.send_data(ChargedBytes::new(Bytes::new(), charge, &outstanding), true)?;
        }
        if piece.done && !ends {
            stream.send_trailers(response::trailers(&bytes[piece.trailers]).ok_or(Failure::Broken)?)?;
        }
        if piece.consumed == 0 {
            fill(pipe, buffer, |context| stream.poll_reset(context)).await?;
        }
    }
    Ok(())
}

/// Sends content as the budget and the client's flow-control window allow.
async fn send(
    stream: &mut SendStream<ChargedBytes>,
    mut content: Bytes,
    mut charge: Charge,
    ends: bool,
    outstanding: &Rc<Outstanding>,
) -> Result<(), Failure> {
    let budget = Rc::clone(charge.budget());
    while !content.is_empty() {
        let limit = poll_fn(|context| outstanding.poll_capacity(context, &budget)).await.min(content.len());
        stream.reserve_capacity(limit);
        let window = poll_fn(|context| stream.poll_capacity(context)).await.ok_or(Failure::ClientGone)??;
        let part = content.split_to(window.min(limit));
        let charge = charge.split(part.len());
        stream.send_data(ChargedBytes::new(part, charge, outstanding), ends && content.is_empty())?;
    }
    Ok(())
}

/// Bytes of the response that were not sent yet.
struct ResponseBuffer {
    bytes: BytesMut,
    charge: Charge,
}

impl ResponseBuffer {
    /// Removes `count` bytes from the front, with their charge.
    fn split(&mut self, count: usize) -> (Bytes, Charge) {
        (self.bytes.split_to(count).freeze(), self.charge.split(count))
    }
}

/// Reads more of the response, unless the client resets the stream.
async fn fill(
    pipe: &Pipe,
    buffer: &mut ResponseBuffer,
    mut poll_reset: impl FnMut(&mut Context<'_>) -> Poll<Result<Reason, h2::Error>>,
) -> Result<(), Failure> {
    poll_fn(|context| match pipe.poll_fill(context, &mut buffer.bytes, &mut buffer.charge) {
        Poll::Ready(Ok(count)) if count > 0 => Poll::Ready(Ok(())),
        Poll::Ready(Ok(_) | Err(_)) => Poll::Ready(Err(Failure::Broken)),
        Poll::Pending => poll_reset(context).map(|_| Err(Failure::ClientGone)),
    })
    .await
}

async fn write_all(pipe: &Pipe, mut bytes: &[u8]) -> Result<(), Failure> {
    while !bytes.is_empty() {
        let count = poll_fn(|context| pipe.poll_write(context, bytes)).await.map_err(|_| Failure::Broken)?;
        bytes = &bytes[count..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state_of<A, B, C, D, T>(_: fn(A, B, C, D) -> T) -> usize {
        size_of::<T>()
    }

    #[test]
    fn a_stream_is_small() {
        assert!(state_of(serve) <= 1728, "{} bytes", state_of(serve));
    }
}
