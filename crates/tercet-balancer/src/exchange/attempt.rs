//! One attempt on one server: on a pipelined connection, an idle connection of the pool, or a new connection.

use std::future::{Future as _, poll_fn};
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::Exchange;
use super::buffering::Spooled;
use super::download::{Delivered, Download};
use super::failure::Failure;
use super::receipt::Receipt;
use super::tunnel;
use super::upload::{Upload, UploadFailure};
use crate::buffer::Buffer;
use crate::client::After;
use crate::clock::TICK;
use crate::compression::Negotiated;
use crate::http1::Framing;
use crate::http1::response::{self, RequestInfo};
use crate::pipeline::PipelineSlot;
use crate::request_buffers::RequestBuffers;
use crate::rotation::InFlight;
use crate::server::Server;
use crate::servers::Servers;
use crate::socket::{Socket, is_out_of_ports, is_out_of_resources};
use crate::worker::Worker;

/// A request in flight on a server of a backend pool.
pub(super) struct Attempt<'a> {
    pub(super) pool: &'a Servers,
    pub(super) server: InFlight,
}

impl Deref for Attempt<'_> {
    type Target = Arc<Server>;

    fn deref(&self) -> &Arc<Server> {
        &self.server
    }
}

/// The connection on which a request is sent.
#[derive(Clone, Copy, Debug)]
enum Connection<'a> {
    /// Exclusive to this request.
    Exclusive(&'a Socket),
    /// Pipelined: the request was sent, and its slot is at the front.
    Pipelined(&'a PipelineSlot),
}

impl Connection<'_> {
    fn socket(&self) -> &Socket {
        match self {
            Self::Exclusive(socket) => socket,
            Self::Pipelined(slot) => slot.socket(),
        }
    }
}

impl Exchange<'_> {
    /// Tries one server: on a pipelined connection, then on an idle one, and if that was closed meanwhile, on a new
    /// one.
    pub(super) async fn try_server(
        &mut self,
        server: &Attempt<'_>,
        buffers: &mut RequestBuffers,
    ) -> Result<After, Failure> {
        if let Some(slot) = self.join_pipeline(server, buffers) {
            match self.try_pipelined(server, slot, buffers).await {
                Err(Failure::PipelineEnded | Failure::Closed)
                    if self.progress.may_resend(self.head.method) => {}
                // Bytes that are no response at all may belong to the response before.
                Err(Failure::Invalid(_))
                    if self.progress.may_resend(self.head.method)
                        && !response::is_response(buffers.server.filled()) => {}
                outcome => return outcome,
            }
        }
        if let Some(socket) = self.worker.pool.take(server, !self.head.method.is_idempotent()) {
            match self.try_connection(server, socket, buffers).await {
                Err(Failure::Closed)
                    if self.progress.first_byte.get().is_none()
                        && self.progress.may_resend(self.head.method) => {}
                outcome => return outcome,
            }
        }
        let socket = self.connect(server).await?;
        self.try_connection(server, socket, buffers).await
    }

    async fn connect(&self, server: &Server) -> Result<Socket, Failure> {
        let deadline = &self.client.deadline;
        deadline.set(*self.config.timeouts.connect);
        loop {
            let mut connecting = Box::pin(server.upstream.connect());
            let connected = poll_fn(|context| match connecting.as_mut().poll(context) {
                Poll::Ready(connected) => Poll::Ready(Some(connected)),
                Poll::Pending if deadline.expired(context) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            })
            .await;
            match connected {
                None => return Err(Failure::ConnectTimeout),
                Some(Ok(socket)) => return Ok(socket),
                Some(Err(error)) if is_out_of_ports(&error) => return Err(Failure::OutOfPorts),
                Some(Err(error)) if is_out_of_resources(&error) => self.wait_for_descriptors().await?,
                Some(Err(_)) => return Err(Failure::NotConnected),
            }
        }
    }

    /// Closes idle connections to free descriptors, and waits one tick for other requests to finish.
    async fn wait_for_descriptors(&self) -> Result<(), Failure> {
        self.worker.pool.clear();
        let pause = self.worker.clock.deadline();
        pause.set(TICK);
        poll_fn(|context| {
            if self.client.deadline.expired(context) {
                Poll::Ready(Err(Failure::OutOfDescriptors))
            } else if pause.expired(context) {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        })
        .await
    }

    async fn try_connection(
        &mut self,
        server: &Attempt<'_>,
        socket: Socket,
        buffers: &mut RequestBuffers,
    ) -> Result<After, Failure> {
        buffers.server.clear();
        self.progress.start(false);
        let delivered = self.relay(server, Connection::Exclusive(&socket), Instant::now(), buffers).await?;
        if delivered.switched {
            // The head stays in `buffers.client` until the request is logged.
            buffers.body = self.worker.buffer_pool.small();
            buffers.body.extend(&buffers.client.filled()[self.head.length..]);
            self.streamed = true;
            let _tunnel = server.tunnel();
            tunnel::run(self.client, server, &socket, buffers, *self.config.timeouts.upgrade).await;
            return Ok(After::Abort);
        }
        // A connection with unsolicited bytes after the response is not reused.
        if delivered.server_reusable && buffers.server.is_empty() && server.is_available() {
            self.worker.pool.give_back(server, socket, self.worker.clock.last_tick());
        }
        Ok(if delivered.client_reusable { After::Keep } else { After::Close })
    }

    /// Sends the request on a pipelined connection, if it is a safe request without a body and there is one.
    fn join_pipeline(&self, server: &Arc<Server>, buffers: &RequestBuffers) -> Option<PipelineSlot> {
        let head = self.head;
        if !head.method.is_safe() || self.streamed || head.framing != Framing::None || head.upgrade.is_some()
        {
            return None;
        }
        let Worker { pipelines, pool, clock, .. } = self.worker;
        pipelines.join(server, &buffers.request, pool, clock.last_tick())
    }

    async fn try_pipelined(
        &self,
        server: &Attempt<'_>,
        slot: PipelineSlot,
        buffers: &mut RequestBuffers,
    ) -> Result<After, Failure> {
        let sent = Instant::now();
        self.progress.start(true);
        self.client.deadline.set(*self.config.timeouts.response);
        poll_fn(|context| match slot.poll_front(context) {
            Poll::Ready(true) => Poll::Ready(Ok(())),
            Poll::Ready(false) => Poll::Ready(Err(Failure::PipelineEnded)),
            Poll::Pending => match self.interruption(context, server, &mut buffers.client) {
                Some(failure) => Poll::Ready(Err(failure)),
                None => Poll::Pending,
            },
        })
        .await?;
        slot.swap_incoming(&mut buffers.server);
        let delivered = self.relay(server, Connection::Pipelined(&slot), sent, buffers).await?;
        slot.swap_incoming(&mut buffers.server);
        let Worker { pipelines, clock, .. } = self.worker;
        slot.complete(pipelines, delivered.server_reusable && server.is_available(), clock.last_tick());
        Ok(if delivered.client_reusable { After::Keep } else { After::Close })
    }

    /// Sends the request on one connection and relays the response, both directions concurrently. `sent` is when
    /// sending began.
    async fn relay(
        &self,
        server: &Attempt<'_>,
        connection: Connection<'_>,
        sent: Instant,
        buffers: &mut RequestBuffers,
    ) -> Result<Delivered, Failure> {
        let Self { worker, client, config, head, progress, .. } = self;
        let mut decoder = self.decoder;
        client.deadline.set(*config.timeouts.response);
        progress.sent.set(Some(sent));
        let socket = connection.socket();
        let mut upload = Upload {
            server: socket,
            outgoing: match connection {
                Connection::Exclusive(_) => &buffers.request,
                Connection::Pipelined(_) => &[],
            },
            spooled: self.spool.as_deref().map(|spool| Box::new(Spooled::new(spool))),
            receipt: Receipt {
                client,
                timeouts: &config.timeouts,
                buffer_pool: &worker.buffer_pool,
                progress,
                body: &mut buffers.body,
                decoder: &mut decoder,
            },
            ready: 0,
        };
        let download = Download {
            client,
            servers: server.pool,
            server,
            socket,
            config,
            buffer_pool: &worker.buffer_pool,
            progress,
            negotiated: self.negotiated(buffers.client.filled()),
            encoders: &worker.encoders,
            pages: self.config.pages.replace_servers.then_some(&self.config.pages),
            prefers_html: self.config.pages.replace_servers && self.prefers_html(buffers.client.filled()),
            request_info: RequestInfo { method: head.method, upgrade: head.upgrade.is_some() },
            version: head.version,
            keep_alive: head.keep_alive && !worker.is_stopping(),
            id: &buffers.request[self.id_range.clone()],
            incoming: &mut buffers.server,
            output: &mut buffers.response,
            sent,
        };
        let mut download = pin!(download.run());
        let mut uploading = true;
        let delivered = poll_fn(|context| {
            if uploading {
                match upload.poll(context) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(())) => {
                        uploading = false;
                        progress.uploaded.set(true);
                    }
                    Poll::Ready(Err(UploadFailure::ClientGone)) => {
                        return Poll::Ready(Err(Failure::ClientGone));
                    }
                    Poll::Ready(Err(UploadFailure::Refused(refusal))) => {
                        return Poll::Ready(Err(Failure::ClientRefused(refusal)));
                    }
                    Poll::Ready(Err(UploadFailure::Unreadable(error))) => {
                        return Poll::Ready(Err(Failure::NotBuffered(error)));
                    }
                    Poll::Ready(Err(UploadFailure::Server)) if !progress.accepted.get() => {
                        return Poll::Ready(Err(Failure::Closed));
                    }
                    // The server has stopped reading, but may have sent a response.
                    Poll::Ready(Err(UploadFailure::Server)) => uploading = false,
                }
            }
            if let Poll::Ready(delivered) = download.as_mut().poll(context) {
                return Poll::Ready(delivered.map_err(Failure::from));
            }
            if let (Connection::Pipelined(slot), Some(_)) = (connection, progress.first_byte.get()) {
                slot.response_began();
            }
            let ahead = match (uploading, self.streamed) {
                (true, _) => &mut Buffer::empty(),
                (false, true) => &mut *upload.receipt.body,
                (false, false) => &mut buffers.client,
            };
            match self.interruption(context, server, ahead) {
                Some(failure) => Poll::Ready(Err(failure)),
                None => Poll::Pending,
            }
        })
        .await?;
        if let Some(after) = progress.first_byte.get() {
            server.record_response(progress.status.get(), after);
        }
        Ok(delivered)
    }

    /// How the response may be compressed.
    fn negotiated(&self, received: &[u8]) -> Option<Negotiated> {
        let compress = self.selected.route.and_then(|route| route.compress);
        Negotiated::new(self.config, compress.unwrap_or(self.config.compress), self.head, received)
    }

    /// Checks whether waiting for the response has to end: the client disconnected, a timeout, a removed server. Bytes
    /// that the client sends meanwhile are read into `ahead`, as far as they fit.
    fn interruption(
        &self,
        context: &mut Context<'_>,
        server: &Server,
        ahead: &mut Buffer,
    ) -> Option<Failure> {
        let Self { client, config, progress, .. } = self;
        let had_ended = client.has_ended();
        if client.read_ahead(context, ahead).is_err() {
            return Some(Failure::ClientGone);
        }
        if client.has_ended() && !had_ended {
            if progress.responding.get() && progress.is_event_stream.get() {
                // A client that half-closes during an event stream has disconnected.
                return Some(Failure::ClientGone);
            }
            if !progress.sending_to_client.get() {
                client.deadline.set(client.response_timeout(*config.timeouts.response));
            }
        }
        if client.deadline.expired(context) {
            return Some(if progress.reading_from_client.get() {
                Failure::ClientTimeout
            } else if progress.sending_to_client.get() || client.has_ended() {
                Failure::ClientGone
            } else {
                Failure::ServerTimeout
            });
        }
        server.is_cut_off().then_some(Failure::CutOff)
    }
}
