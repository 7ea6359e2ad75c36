//! Relays a response to the client: rewrites its head, and streams its body without buffering all of it.

use std::future::poll_fn;
use std::io::{self, Write as _};
use std::task::{Context, Poll};
use std::time::Instant;

use tercet_observe::request_id;
use tercet_observe::stages::Stages;

use super::progress::Progress;
use crate::buffer::{Buffer, LARGE, SMALL};
use crate::client::Client;
use crate::compression::Negotiated;
use crate::compression::encoder::{Encoder, Encoders};
use crate::config::Config;
use crate::http1::recoding::Recoding;
use crate::http1::response::{self, RequestInfo};
use crate::http1::{Decoder, Field, Framing, HeadLimits, Method, Refusal, ResponseHead, Version, write};
use crate::pages::Pages;
use crate::request_buffers::BufferPool;
use crate::server::Server;
use crate::servers::Servers;
use crate::socket::Socket;

/// The most body bytes that are copied behind the head for a single write; beyond, a second write is cheaper.
const MAX_COPY: usize = 64 * 1024;
/// The most content that is encoded until other tasks get their turn, in bytes; more than a chunk line or trailers.
const MAX_ENCODED: usize = 32 * 1024;
/// The most interim (1xx) responses before the final one.
const MAX_INTERIM: usize = 32;

/// Receives one response and relays it.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) servers: &'a Servers,
    pub(super) server: &'a Server,
    pub(super) socket: &'a Socket,
    pub(super) config: &'a Config,
    pub(super) buffer_pool: &'a BufferPool,
    pub(super) progress: &'a Progress,
    pub(super) request_info: RequestInfo,
    /// How the response may be compressed.
    pub(super) negotiated: Option<Negotiated>,
    pub(super) encoders: &'a Encoders,
    /// The error pages that replace the bodies of servers' responses.
    pub(super) pages: Option<&'a Pages>,
    /// Whether the client gets them.
    pub(super) prefers_html: bool,
    pub(super) version: Version,
    /// Whether the client and the balancer keep the client's connection.
    pub(super) keep_alive: bool,
    /// The request's id.
    pub(super) id: &'a [u8],
    pub(super) incoming: &'a mut Buffer,
    pub(super) output: &'a mut Vec<u8>,
    pub(super) sent: Instant,
}

/// A response that was relayed completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    /// The server's connection can be used for another request, if no bytes followed the response.
    pub(super) server_reusable: bool,
    /// The client's connection can be used for another request.
    pub(super) client_reusable: bool,
    /// The server switched protocols: the connection becomes a tunnel.
    pub(super) switched: bool,
}

/// Why a response was not relayed completely.
#[derive(Debug)]
pub(super) enum DownloadFailure {
    /// The client disconnected.
    ClientGone,
    /// The server closed or reset the connection.
    Closed,
    /// The server's response is invalid.
    Invalid(Refusal),
}

/// How the framing of a body is converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reframing {
    /// Not at all: it is validated and relayed byte for byte.
    None,
    /// From read-until-close to chunked, so that the client's connection can be kept.
    Chunk,
    /// From chunked to read-until-close, for an HTTP/1.0 client.
    Unchunk,
    /// The body is discarded: an error page is in its place.
    Discard,
}

/// A response whose head is in the output.
#[derive(Clone, Copy, Debug)]
struct Begun {
    decoder: Decoder,
    reframing: Reframing,
    /// The server keeps the connection.
    server_keeps: bool,
    client_reusable: bool,
    switched: bool,
}

impl<'a> Download<'a> {
    /// Receives the response and relays it.
    pub(super) async fn run(mut self) -> Result<Delivered, DownloadFailure> {
        let mut interim = 0;
        let mut encoder = None;
        let begun = loop {
            // A head is large: it must not be part of the future's state across an await.
            let begun = {
                let head = self.read_head().await?;
                self.write_head(&head, &mut encoder)
            };
            if let Some(begun) = begun {
                break begun;
            }
            interim += 1;
            if interim > MAX_INTERIM {
                let reason = "too many interim responses";
                return Err(DownloadFailure::Invalid(Refusal { status: 502, reason }));
            }
            self.send(0).await?;
            self.client.deadline.set(*self.config.timeouts.response);
        };
        let Begun { mut decoder, reframing, mut server_keeps, client_reusable, switched } = begun;
        match encoder {
            // Boxed, so that other responses do not hold its state.
            Some(encoder) => Box::pin(self.relay_encoded(decoder, encoder)).await?,
            None if switched => self.send(0).await?,
            None if reframing == Reframing::Discard => {
                self.send(0).await?;
                // What has not arrived is not waited for: the connection is closed instead.
                let rest = decoder.advance(self.incoming.filled()).map_err(DownloadFailure::Invalid)?;
                self.incoming.consume(rest.consumed);
                server_keeps &= decoder.is_done();
            }
            None => self.relay_body(decoder, reframing).await?,
        }
        Ok(Delivered {
            server_reusable: server_keeps && self.progress.uploaded.get(),
            client_reusable,
            switched,
        })
    }

    /// Writes a head to the output. `None` for an interim response, which an HTTP/1.0 client does not get (RFC 9110
    /// section 15.2). `encoder` is set if the body is compressed.
    fn write_head(&mut self, head: &ResponseHead, encoder: &mut Option<Box<Encoder<'a>>>) -> Option<Begun> {
        if self.output.capacity() == 0 {
            *self.output = self.buffer_pool.take_output();
        }
        self.output.clear();
        let buffer = self.incoming.filled();
        if head.is_interim() {
            if self.version == Version::Http11 {
                let same = Recoding::default();
                write::response(self.output, buffer, head, Framing::None, same, self.version, true);
                self.output.extend_from_slice(b"\r\n");
            }
            self.incoming.consume(head.length);
            return None;
        }
        self.progress.status.set(head.status);
        let (framing, reframing) = match (head.framing, self.version) {
            (Framing::UntilClose, Version::Http11) => (Framing::Chunked, Reframing::Chunk),
            (Framing::Chunked, Version::Http10) => (Framing::UntilClose, Reframing::Unchunk),
            (framing, _) => (framing, Reframing::None),
        };
        self.progress.is_event_stream.set(head.is_event_stream(buffer));
        self.progress.stages.set(head.value(buffer, Field::XTercetStages).and_then(Stages::parse));
        // RFC 9110 section 15.5.22: a 426 is about its Upgrade field.
        let pages = self.pages.filter(|_| head.status != 426);
        let page = pages.and_then(|pages| pages.of_status(head.status));
        if let Some(page) = page.filter(|_| self.prefers_html) {
            return Some(self.write_page(head, page));
        }
        let (recoding, started) = self.recoding(head);
        *encoder = started;
        let framing = if encoder.is_some() { Framing::Chunked } else { framing };
        let switched = head.status == 101;
        // Until the whole request was read, the start of the client's next one is unknown.
        let client_reusable =
            self.keep_alive && framing != Framing::UntilClose && self.progress.uploaded.get() && !switched;
        let keep_alive = client_reusable || switched;
        write::response(self.output, buffer, head, framing, recoding, self.version, keep_alive);
        if page.is_some() {
            // Others get the page: a cache must not send them this response.
            write::push_line(self.output, b"Vary", b"Accept");
        }
        self.push_balancer_lines(head);
        self.incoming.consume(head.length);
        let decoder = Decoder::new(head.framing, u64::MAX);
        Some(Begun { decoder, reframing, server_keeps: head.keep_alive, client_reusable, switched })
    }

    /// Writes the head of a response with an error page in place of its body, and the page.
    fn write_page(&mut self, head: &ResponseHead, page: &[u8]) -> Begun {
        let client_reusable = self.keep_alive && self.progress.uploaded.get();
        let buffer = self.incoming.filled();
        write::replaced(self.output, buffer, head, page, self.version, client_reusable);
        self.push_balancer_lines(head);
        if self.request_info.method != Method::Head {
            self.output.extend_from_slice(page);
            self.progress.count(page.len() as u64);
        }
        self.incoming.consume(head.length);
        Begun {
            decoder: Decoder::new(head.framing, u64::MAX),
            reframing: Reframing::Discard,
            server_keeps: head.keep_alive,
            client_reusable,
            switched: false,
        }
    }

    /// How the content of a response differs, and the encoder of its body if it has one.
    fn recoding(&self, head: &ResponseHead) -> (Recoding, Option<Box<Encoder<'a>>>) {
        let Some(negotiated) = self.negotiated else { return (Recoding::default(), None) };
        let minimum = *self.config.compression.minimum_size;
        let recoding = negotiated.recoding(self.request_info.method, head, self.incoming.filled(), minimum);
        let Some(coding) = negotiated.coding.filter(|_| recoding.coding.is_some()) else {
            return (recoding, None);
        };
        if head.framing == Framing::None {
            return (recoding, None);
        }
        match self.encoders.start(coding, &self.config.compression) {
            Some(encoder) => (recoding, Some(Box::new(encoder))),
            None => (Recoding { coding: None, is_weak: false, ..recoding }, None),
        }
    }

    async fn read_head(&mut self) -> Result<ResponseHead, DownloadFailure> {
        let limits = HeadLimits::of_responses(&self.config.limits);
        let mut seen = 0;
        loop {
            if !self.incoming.is_empty() && crate::http1::worth_parsing(self.incoming.filled(), seen) {
                let parsed = response::parse(self.incoming.filled(), &limits, self.request_info);
                if let Some(head) = parsed.map_err(DownloadFailure::Invalid)? {
                    return Ok(head);
                }
            }
            seen = self.incoming.len();
            self.read(limits.head_bytes.max(SMALL)).await.and_then(not_closed)?;
            if self.progress.first_byte.get().is_none() {
                self.progress.first_byte.set(Some(self.sent.elapsed()));
                self.server.reset_failures();
                self.servers.response_began(self.server);
            }
        }
    }

    /// Writes the header lines that the balancer adds, and the empty line.
    fn push_balancer_lines(&mut self, head: &ResponseHead) {
        write::push_line(self.output, request_id::HEADER.as_bytes(), self.id);
        if !head.has_date {
            write::push_line(self.output, b"Date", crate::local_reply::date().as_bytes());
        }
        self.client.push_transport_security(self.output);
        if let Some(name) = &self.config.served_by {
            write::push_line(self.output, name.as_bytes(), self.server.name.as_bytes());
        }
        self.output.extend_from_slice(b"\r\n");
    }

    /// Relays the body, its first bytes together with the head in the output.
    async fn relay_body(
        &mut self,
        mut decoder: Decoder,
        reframing: Reframing,
    ) -> Result<(), DownloadFailure> {
        loop {
            match reframing {
                Reframing::None => {
                    let decoded =
                        decoder.advance(self.incoming.filled()).map_err(DownloadFailure::Invalid)?;
                    self.progress.count(decoded.content);
                    self.send(decoded.consumed).await?;
                }
                Reframing::Chunk | Reframing::Unchunk | Reframing::Discard => {
                    self.reframe(&mut decoder, reframing)?;
                    self.send(0).await?;
                }
            }
            if decoder.is_done() {
                return Ok(());
            }
            if decoder.expects() > SMALL as u64 && self.incoming.capacity() < LARGE {
                self.buffer_pool.enlarge(self.incoming, 0);
            }
            if self.read(LARGE).await? == 0 {
                if !decoder.may_end_by_close() {
                    return Err(DownloadFailure::Closed);
                }
                if reframing == Reframing::Chunk {
                    self.output.extend_from_slice(b"0\r\n\r\n");
                    self.send(0).await?;
                }
                return Ok(());
            }
        }
    }

    /// Relays the body in another coding. Pieces are sent on when no more of the body has arrived; after at most
    /// [`MAX_ENCODED`] bytes of content other tasks get their turn.
    async fn relay_encoded(
        &mut self,
        mut decoder: Decoder,
        mut encoder: Box<Encoder<'a>>,
    ) -> Result<(), DownloadFailure> {
        let mut encoded = 0;
        loop {
            let received = self.incoming.filled();
            let received = &received[..received.len().min(MAX_ENCODED)];
            let piece = decoder.decode(received).map_err(DownloadFailure::Invalid)?;
            encoder.write(&received[piece.content.clone()]).map_err(not_encoded)?;
            if piece.done {
                let trailers = received[piece.trailers].to_vec();
                self.incoming.consume(piece.consumed);
                return self.end_encoded(encoder, &trailers).await;
            }
            self.incoming.consume(piece.consumed);
            encoded += piece.content.len();
            if encoder.encoded().len() >= SMALL {
                self.push_chunk(encoder.encoded());
                self.send(0).await?;
            }
            if encoded >= MAX_ENCODED {
                encoded = 0;
                tokio::task::yield_now().await;
            }
            if piece.consumed > 0 {
                continue;
            }
            self.prepare_read(LARGE)?;
            let read = match poll_fn(|context| Poll::Ready(self.poll_read(context))).await {
                Poll::Ready(read) => self.received(read)?,
                Poll::Pending => {
                    encoder.flush().map_err(not_encoded)?;
                    self.push_chunk(encoder.encoded());
                    self.send(0).await?;
                    self.read(LARGE).await?
                }
            };
            if read == 0 {
                if !decoder.may_end_by_close() {
                    return Err(DownloadFailure::Closed);
                }
                return self.end_encoded(encoder, b"").await;
            }
        }
    }

    async fn end_encoded(
        &mut self,
        encoder: Box<Encoder<'a>>,
        trailers: &[u8],
    ) -> Result<(), DownloadFailure> {
        self.push_chunk(&mut encoder.finish().map_err(not_encoded)?);
        self.output.extend_from_slice(b"0\r\n");
        self.output.extend_from_slice(trailers);
        self.output.extend_from_slice(b"\r\n");
        self.send(0).await
    }

    /// Moves content to the output, as a chunk.
    fn push_chunk(&mut self, content: &mut Vec<u8>) {
        if !content.is_empty() {
            write!(self.output, "{:x}\r\n", content.len()).expect("writing to a Vec cannot fail");
            self.output.extend_from_slice(content);
            self.output.extend_from_slice(b"\r\n");
            self.progress.count(content.len() as u64);
            content.clear();
        }
    }

    fn reframe(&mut self, decoder: &mut Decoder, reframing: Reframing) -> Result<(), DownloadFailure> {
        loop {
            let piece = decoder.decode(self.incoming.filled()).map_err(DownloadFailure::Invalid)?;
            let content = &self.incoming.filled()[piece.content.clone()];
            if !content.is_empty() {
                if reframing == Reframing::Chunk {
                    write!(self.output, "{:x}\r\n", content.len()).expect("writing to a Vec cannot fail");
                    self.output.extend_from_slice(content);
                    self.output.extend_from_slice(b"\r\n");
                } else {
                    self.output.extend_from_slice(content);
                }
                self.progress.count(content.len() as u64);
            }
            self.incoming.consume(piece.consumed);
            if piece.done || piece.consumed == 0 {
                return Ok(());
            }
        }
    }

    /// Reads more from the server, into a buffer of up to `limit` bytes; 0 is the end.
    async fn read(&mut self, limit: usize) -> Result<usize, DownloadFailure> {
        self.prepare_read(limit)?;
        let read = poll_fn(|context| self.poll_read(context)).await;
        self.received(read)
    }

    fn prepare_read(&mut self, limit: usize) -> Result<(), DownloadFailure> {
        if self.incoming.is_empty() && self.incoming.capacity() <= SMALL {
            self.buffer_pool.give_back_response(std::mem::take(self.incoming));
        } else if !self.incoming.ensure_spare(limit) {
            let reason = "a head or a chunk line is longer than allowed";
            return Err(DownloadFailure::Invalid(Refusal { status: 502, reason }));
        }
        if self.progress.status.get() != 0 {
            self.client.deadline.set(self.client.response_timeout(*self.config.timeouts.response_body));
        }
        Ok(())
    }

    fn received(&mut self, read: io::Result<usize>) -> Result<usize, DownloadFailure> {
        let count = read.map_err(|_| DownloadFailure::Closed)?;
        self.incoming.advance(count);
        Ok(count)
    }

    /// Reads into the buffer, or if it has no capacity into one that is taken from the pool once there are bytes.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.incoming.capacity() > 0 {
            return self.socket.poll_read(context, self.incoming.spare());
        }
        let mut buffer = self.buffer_pool.take_response();
        let read = self.socket.poll_read(context, buffer.spare());
        if read.is_pending() {
            self.buffer_pool.give_back_response(buffer);
        } else {
            *self.incoming = buffer;
        }
        read
    }

    /// Sends the output, and then the first `count` received bytes.
    async fn send(&mut self, count: usize) -> Result<(), DownloadFailure> {
        let body = &self.incoming.filled()[..count];
        if self.output.is_empty() && body.is_empty() {
            return Ok(());
        }
        self.progress.responding.set(true);
        self.progress.sending_to_client.set(true);
        let timeout = *self.config.timeouts.send;
        let sent = if self.output.is_empty() {
            self.client.write_all(body, timeout).await
        } else if body.len() <= MAX_COPY {
            self.output.extend_from_slice(body);
            self.client.write_all(self.output, timeout).await
        } else {
            match self.client.write_all(self.output, timeout).await {
                Ok(()) => self.client.write_all(body, timeout).await,
                error => error,
            }
        };
        self.progress.sending_to_client.set(false);
        self.output.clear();
        self.incoming.consume(count);
        sent.map_err(|_: io::Error| DownloadFailure::ClientGone)
    }
}

fn not_encoded(_: io::Error) -> DownloadFailure {
    DownloadFailure::Invalid(Refusal { status: 502, reason: "the response cannot be compressed" })
}

fn not_closed(count: usize) -> Result<usize, DownloadFailure> {
    if count == 0 { Err(DownloadFailure::Closed) } else { Ok(count) }
}
