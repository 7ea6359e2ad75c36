//! The answer's way to the client: its head written anew, its body passed on as it comes, nothing of it
//! gathered first.

use std::future::poll_fn;
use std::io::{self, Write as _};
use std::time::Instant;

use super::progress::Progress;
use crate::buffer::{Buffer, LARGE, SMALL};
use crate::client::Client;
use crate::config::Config;
use crate::http1::response::{self, Asked};
use crate::http1::{Decoder, Framing, HeadLimits, Refusal, ResponseHead, Version, write};
use crate::request_buffers::BufferPool;
use crate::server::Server;
use crate::servers::Servers;
use crate::socket::Socket;

/// Body bytes up to which head and body go out in one write; beyond, copying costs more than a second write.
const TOGETHER: usize = 64 * 1024;
/// Interim responses that may precede an answer; a server that sends more is not going to give one.
const MOST_INTERIM: usize = 32;

/// One try to get an answer.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) servers: &'a Servers,
    pub(super) server: &'a Server,
    pub(super) socket: &'a Socket,
    pub(super) config: &'a Config,
    pub(super) buffer_pool: &'a BufferPool,
    pub(super) progress: &'a Progress,
    pub(super) asked: Asked,
    pub(super) version: Version,
    /// Whether the client wants to keep its connection and the balancer lets it.
    pub(super) keep_alive: bool,
    pub(super) incoming: &'a mut Buffer,
    pub(super) output: &'a mut Vec<u8>,
    pub(super) started: Instant,
}

/// How an answer ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delivered {
    /// The server's connection can carry another request, if nothing came after the answer.
    pub(super) server_keeps: bool,
    /// The client's connection can carry another request.
    pub(super) client_reusable: bool,
    /// The server switched protocols: from here on bytes are passed both ways.
    pub(super) switched: bool,
}

/// Why there is no whole answer.
#[derive(Debug)]
pub(super) enum DownloadFailure {
    /// The client broke off.
    ClientGone,
    /// The server closed or reset the connection.
    Closed,
    /// What the server sent is no valid answer.
    Invalid(Refusal),
}

/// What becomes of a body's framing on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reframing {
    /// Nothing: checked, and passed on byte for byte.
    None,
    /// What ended with the connection is chunked, so that the client's connection can be kept.
    Chunk,
    /// What was chunked ends with the connection, for a client of HTTP/1.0.
    Unchunk,
}

/// An answer whose head is in the output.
#[derive(Clone, Copy, Debug)]
struct Begun {
    decoder: Decoder,
    reframing: Reframing,
    /// The server keeps the connection.
    server_keeps: bool,
    client_reusable: bool,
    switched: bool,
}

impl Download<'_> {
    /// Receives the answer and passes it on.
    pub(super) async fn run(mut self) -> Result<Delivered, DownloadFailure> {
        let mut interim = 0;
        let begun = loop {
            // A head is large: it is not kept while anything is waited for.
            let taken = {
                let head = self.read_head().await?;
                self.take_head(&head)
            };
            if let Some(begun) = taken {
                break begun;
            }
            interim += 1;
            if interim > MOST_INTERIM {
                let reason = "interim responses without end";
                return Err(DownloadFailure::Invalid(Refusal { status: 502, reason }));
            }
            self.send(0).await?;
            self.client.watch.set(self.config.timeouts.response);
        };
        let Begun { decoder, reframing, server_keeps, client_reusable, switched } = begun;
        if switched {
            self.send(0).await?;
        } else {
            self.pass_body(decoder, reframing).await?;
        }
        Ok(Delivered {
            server_keeps: server_keeps && self.progress.uploaded.get(),
            client_reusable,
            switched,
        })
    }

    /// Writes a head to the output: `None` for a 1xx, which is for whom may get one (RFC 9110 section 15.2).
    fn take_head(&mut self, head: &ResponseHead) -> Option<Begun> {
        self.output.clear();
        let buffer = self.incoming.filled();
        if head.is_interim() {
            if self.version == Version::Http11 {
                write::response(self.output, buffer, head, Framing::None, self.version, true);
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
        let switched = head.status == 101;
        // While the request is still being sent nobody knows where the client's next one would start.
        let client_reusable =
            self.keep_alive && framing != Framing::UntilClose && self.progress.uploaded.get() && !switched;
        self.progress.is_event_stream.set(head.is_event_stream(buffer));
        write::response(self.output, buffer, head, framing, self.version, client_reusable || switched);
        self.push_own_lines(head);
        self.incoming.consume(head.length);
        let decoder = Decoder::new(head.framing, u64::MAX);
        Some(Begun { decoder, reframing, server_keeps: head.keep_alive, client_reusable, switched })
    }

    async fn read_head(&mut self) -> Result<ResponseHead, DownloadFailure> {
        let limits = response_head_limits(self.config);
        let mut seen = 0;
        loop {
            if !self.incoming.is_empty() && crate::http1::worth_parsing(self.incoming.filled(), seen) {
                let parsed = response::parse(self.incoming.filled(), &limits, self.asked);
                if let Some(head) = parsed.map_err(DownloadFailure::Invalid)? {
                    return Ok(head);
                }
            }
            seen = self.incoming.len();
            self.read(limits.head_bytes.max(SMALL)).await.and_then(not_closed)?;
            if self.progress.first_byte.get().is_none() {
                self.progress.first_byte.set(Some(self.started.elapsed()));
                self.server.forgive();
                self.servers.heard(self.server);
            }
        }
    }

    fn push_own_lines(&mut self, head: &ResponseHead) {
        if !head.has_date {
            write::push_line(self.output, b"Date", crate::answer::date().as_bytes());
        }
        if let Some(age) = self.client.bind_address.listen.hsts.filter(|_| self.client.socket.is_tls()) {
            let value = format!("max-age={}", age.as_secs());
            write::push_line(self.output, b"Strict-Transport-Security", value.as_bytes());
        }
        if let Some(name) = &self.config.served_by {
            write::push_line(self.output, name.as_bytes(), self.server.name.as_bytes());
        }
        self.output.extend_from_slice(b"\r\n");
    }

    /// Passes the body on, the first of it together with the head that waits in the output.
    async fn pass_body(&mut self, mut decoder: Decoder, reframing: Reframing) -> Result<(), DownloadFailure> {
        loop {
            match reframing {
                Reframing::None => {
                    let passed = decoder.advance(self.incoming.filled()).map_err(DownloadFailure::Invalid)?;
                    self.progress.count(passed.content);
                    self.send(passed.consumed).await?;
                }
                Reframing::Chunk | Reframing::Unchunk => {
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
        if !self.incoming.make_room(limit) {
            let reason = "a head or a chunk line longer than allowed";
            return Err(DownloadFailure::Invalid(Refusal { status: 502, reason }));
        }
        if self.progress.status.get() != 0 {
            self.client.watch.set(self.client.patience(self.config.timeouts.response_body));
        }
        let count = poll_fn(|context| self.socket.poll_read(context, self.incoming.spare()))
            .await
            .map_err(|_| DownloadFailure::Closed)?;
        self.incoming.advance(count);
        Ok(count)
    }

    /// Sends the output and then `count` bytes of what came from the server.
    async fn send(&mut self, count: usize) -> Result<(), DownloadFailure> {
        let body = &self.incoming.filled()[..count];
        if self.output.is_empty() && body.is_empty() {
            return Ok(());
        }
        self.progress.answering.set(true);
        self.progress.waits_for_reader.set(true);
        let patience = self.config.timeouts.send;
        let sent = if self.output.is_empty() {
            self.client.write_all(body, patience).await
        } else if body.len() <= TOGETHER {
            self.output.extend_from_slice(body);
            self.client.write_all(self.output, patience).await
        } else {
            match self.client.write_all(self.output, patience).await {
                Ok(()) => self.client.write_all(body, patience).await,
                error => error,
            }
        };
        self.progress.waits_for_reader.set(false);
        self.output.clear();
        self.incoming.consume(count);
        sent.map_err(|_: io::Error| DownloadFailure::ClientGone)
    }
}

fn response_head_limits(config: &Config) -> HeadLimits {
    HeadLimits {
        head_bytes: config.limits.response_head as usize,
        headers: config.limits.headers,
        target_bytes: 0,
        body_bytes: u64::MAX,
    }
}

fn not_closed(count: usize) -> Result<usize, DownloadFailure> {
    if count == 0 { Err(DownloadFailure::Closed) } else { Ok(count) }
}
