//! One stream: its request on the way every request takes, and the answer back, both at the same time.

use std::future::{Future as _, poll_fn};
use std::io::Write as _;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};

use super::FAREWELL;
use super::allowance::{Allowance, Charge, Held, Outstanding};
use super::guard::{Note, Refused};
use super::pipe::{self, Pipe};
use super::request::{self, Body, Malformed};
use super::response;
use crate::answer::Answer;
use crate::client::Client;
use crate::connection;
use crate::http1::response::{Asked, parse};
use crate::http1::{Decoder, Framing, HeadLimits, Method, Refusal, Version};
use crate::socket::Socket;
use crate::worker::Worker;

/// What was written by the balancer itself is read back without limits that matter.
const LIMITS: HeadLimits =
    HeadLimits { head_bytes: 4 << 20, headers: 2048, target_bytes: 0, body_bytes: u64::MAX };

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The client was given an answer, or an error of ours.
    Answered,
    /// The client did not wait for it.
    BrokenOff,
}

/// Why a stream does not end well.
#[derive(Debug)]
enum Failure {
    /// The client reset it, or its connection is gone.
    ClientGone,
    /// There is no answer, or only part of one.
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
    allowance: &Rc<Allowance>,
    request: Box<super::Request>,
) -> Outcome {
    let (request, mut respond, note) = *request;
    let (parts, body) = request.into_parts();
    let mut head = Vec::with_capacity(512);
    let framing = match write(&mut head, &parts, note, body.is_end_stream()) {
        Ok(framing) => framing,
        Err(refused) => return Box::pin(refuse(&worker, client, allowance, respond, &refused)).await,
    };
    let asked = Asked { method: Method::of(parts.method.as_str().as_bytes()), upgrade: false };
    drop(parts);
    let (ours, theirs) = pipe::pair(allowance);
    let watch = worker.clock.watch();
    let socket = Socket::pipe(theirs, client.socket.is_tls());
    let stream = Box::new(Client::new(socket, watch, client.address, Arc::clone(&client.bind_address)));
    let exchange = async {
        if let Some(buffers) = connection::first_bytes(&worker, &stream).await {
            connection::serve(Rc::clone(&worker), stream, buffers).await;
        }
    };
    let carry = async move {
        let carried = carry(&ours, allowance, head, framing, body, &mut respond, asked).await;
        if let Err(Failure::Broken) = carried {
            respond.send_reset(Reason::INTERNAL_ERROR);
        }
        // With it goes our end of the pipe, which is how the exchange learns that the client has gone.
        carried
    };
    match tokio::join!(carry, exchange) {
        (Err(Failure::ClientGone), ()) => Outcome::BrokenOff,
        (Ok(()) | Err(Failure::Broken), ()) => Outcome::Answered,
    }
}

/// Writes the head of a request on which the guard may have left a note, unless the request is refused.
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

/// Answers a request that is malformed, logs it, and resets its stream (RFC 9113 section 8.1.1).
async fn refuse(
    worker: &Worker,
    client: &Client,
    allowance: &Rc<Allowance>,
    mut respond: SendResponse<Held>,
    refused: &Refused,
) -> Outcome {
    let Refused { refusal, method, target, has_ended } = refused;
    let answer = Answer::refusing(*refusal, true);
    let asked = Asked { method: Method::of(method), upgrade: false };
    let mut bytes = Vec::new();
    let length = answer.write(&mut bytes, Version::Http11, asked.method);
    worker.refused_as(client, (method, target, "HTTP/2.0"), *refusal, length);
    let outstanding = Rc::default();
    let sent = async {
        let head = parse(&bytes, &LIMITS, asked).ok().flatten().ok_or(Failure::Broken)?;
        let response = response::convert(&bytes, &head).ok_or(Failure::Broken)?;
        let content = Bytes::copy_from_slice(&bytes[head.length..]);
        let mut stream = respond.send_response(response, content.is_empty())?;
        if content.is_empty() {
            return Ok(());
        }
        let held = Held::new(content, Charge::new(allowance), &outstanding);
        // What is ended on both sides cannot be reset any more.
        stream.send_data(held, *has_ended)?;
        // A reset throws away what is not written.
        let written = poll_fn(|context| outstanding.poll_written(context));
        let _ = tokio::time::timeout(FAREWELL, written).await;
        stream.send_reset(Reason::PROTOCOL_ERROR);
        Ok::<_, Failure>(())
    };
    if sent.await.is_err() {
        respond.send_reset(Reason::PROTOCOL_ERROR);
    }
    Outcome::BrokenOff
}

/// Sends the request into the pipe and the answer out of it; an answer ends the matter even while the request is
/// still being sent (RFC 9113 section 8.1).
async fn carry(
    pipe: &Pipe,
    allowance: &Rc<Allowance>,
    head: Vec<u8>,
    framing: Body,
    body: RecvStream,
    respond: &mut SendResponse<Held>,
    asked: Asked,
) -> Result<(), Failure> {
    let mut upload = pin!(upload(pipe, head, framing, body));
    let mut download = pin!(download(pipe, allowance, respond, asked));
    let mut uploading = true;
    poll_fn(|context| {
        if uploading && let Poll::Ready(uploaded) = upload.as_mut().poll(context) {
            match uploaded {
                // Whoever takes no more of the request has an answer, or will go away without one.
                Ok(()) | Err(Failure::Broken) => uploading = false,
                Err(Failure::ClientGone) => return Poll::Ready(Err(Failure::ClientGone)),
            }
        }
        download.as_mut().poll(context)
    })
    .await
}

async fn upload(pipe: &Pipe, head: Vec<u8>, framing: Body, mut body: RecvStream) -> Result<(), Failure> {
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
        // Only what was passed on is made room for.
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
    allowance: &Rc<Allowance>,
    respond: &mut SendResponse<Held>,
    asked: Asked,
) -> Result<(), Failure> {
    let mut buffer = Received { bytes: BytesMut::new(), charge: Charge::new(allowance) };
    let (mut stream, framing) = loop {
        if let Some(begun) = begin(&mut buffer, respond, asked)? {
            break begun;
        }
        fill(pipe, &mut buffer, |context| respond.poll_reset(context)).await?;
    };
    send_body(pipe, &mut buffer, framing, &mut stream).await
}

/// Sends the heads there are: `None` when the final one is not there yet. A head is large, so none is kept while
/// anything is waited for.
fn begin(
    buffer: &mut Received,
    respond: &mut SendResponse<Held>,
    asked: Asked,
) -> Result<Option<(SendStream<Held>, Framing)>, Failure> {
    while let Some(head) = parse(&buffer.bytes, &LIMITS, asked).map_err(|_| Failure::Broken)? {
        let answer = response::convert(&buffer.bytes, &head).ok_or(Failure::Broken)?;
        drop(buffer.split(head.length));
        if head.is_interim() {
            respond.send_informational(answer)?;
        } else {
            let stream = respond.send_response(answer, head.framing == Framing::None)?;
            return Ok(Some((stream, head.framing)));
        }
    }
    Ok(None)
}

async fn send_body(
    pipe: &Pipe,
    buffer: &mut Received,
    framing: Framing,
    stream: &mut SendStream<Held>,
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
            stream.send_data(Held::new(Bytes::new(), charge, &outstanding), true)?;
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

/// Sends as the client makes room.
async fn send(
    stream: &mut SendStream<Held>,
    mut content: Bytes,
    mut charge: Charge,
    ends: bool,
    outstanding: &Rc<Outstanding>,
) -> Result<(), Failure> {
    let allowance = Rc::clone(charge.allowance());
    while !content.is_empty() {
        let most = poll_fn(|context| outstanding.poll_room(context, &allowance)).await.min(content.len());
        stream.reserve_capacity(most);
        let room = poll_fn(|context| stream.poll_capacity(context)).await.ok_or(Failure::ClientGone)??;
        let part = content.split_to(room.min(most));
        let charge = charge.split(part.len());
        stream.send_data(Held::new(part, charge, outstanding), ends && content.is_empty())?;
    }
    Ok(())
}

/// What came of the answer and was not sent yet.
struct Received {
    bytes: BytesMut,
    charge: Charge,
}

impl Received {
    /// Takes so many bytes from its front.
    fn split(&mut self, count: usize) -> (Bytes, Charge) {
        (self.bytes.split_to(count).freeze(), self.charge.split(count))
    }
}

/// Reads more of the answer, unless the client breaks off.
async fn fill(
    pipe: &Pipe,
    buffer: &mut Received,
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
