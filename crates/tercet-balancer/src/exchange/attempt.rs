//! One server's try at a request: over a connection that others share, one that is at hand, or a new one.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::net::TcpStream;

use super::Exchange;
use super::download::{Delivered, Download};
use super::failure::Failure;
use super::tunnel;
use super::upload::{Upload, UploadFailure};
use crate::buffer::Buffer;
use crate::client::After;
use crate::clock::TICK;
use crate::http1::Framing;
use crate::http1::response::{self, Asked};
use crate::pipeline::PipelineSlot;
use crate::request_buffers::RequestBuffers;
use crate::rotation::InFlight;
use crate::server::Server;
use crate::socket::{Socket, is_out_of_ports, is_own_fault};
use crate::worker::Worker;

/// The connection a request goes over.
#[derive(Clone, Copy, Debug)]
enum Way<'a> {
    /// One it has for itself.
    Own(&'a Socket),
    /// One that others share: the request was sent, and it has the turn.
    Shared(&'a PipelineSlot),
}

impl Way<'_> {
    fn socket(&self) -> &Socket {
        match self {
            Self::Own(socket) => socket,
            Self::Shared(slot) => slot.socket(),
        }
    }
}

impl Exchange<'_> {
    /// Tries one server: on a connection that others share, on one that is at hand, and if that turns out to have
    /// been closed meanwhile, on a new one.
    pub(super) async fn try_server(
        &mut self,
        turn: &InFlight,
        buffers: &mut RequestBuffers,
    ) -> Result<After, Failure> {
        if let Some(slot) = self.join(turn, buffers) {
            match self.try_shared(turn, slot, buffers).await {
                Err(Failure::Displaced | Failure::Closed)
                    if self.progress.may_send_again(self.head.method) => {}
                // What is no answer at all may be the leftovers of the one before; a wrong one is this request's.
                Err(Failure::Invalid(_))
                    if self.progress.may_send_again(self.head.method)
                        && !response::is_answer(buffers.server.filled()) => {}
                settled => return settled,
            }
        }
        if let Some(socket) = self.worker.pool.take(turn, !self.head.method.is_idempotent()) {
            match self.try_connection(turn, socket, buffers).await {
                Err(Failure::Closed)
                    if self.progress.first_byte.get().is_none()
                        && self.progress.may_send_again(self.head.method) => {}
                settled => return settled,
            }
        }
        let socket = self.connect(turn).await?;
        self.try_connection(turn, socket, buffers).await
    }

    async fn connect(&self, server: &Server) -> Result<Socket, Failure> {
        let patience = &self.client.watch;
        patience.set(self.config.timeouts.connect);
        loop {
            let mut connecting = Box::pin(TcpStream::connect(server.address));
            let connected = poll_fn(|context| match connecting.as_mut().poll(context) {
                Poll::Ready(connected) => Poll::Ready(Some(connected)),
                Poll::Pending if patience.expired(context) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            })
            .await;
            match connected {
                None => return Err(Failure::ConnectTimeout),
                Some(Ok(stream)) => {
                    // Without it an answer in two parts waits for an acknowledgement; nothing else depends on it.
                    let _ = stream.set_nodelay(true);
                    return Ok(Socket::plain(stream));
                }
                Some(Err(error)) if is_out_of_ports(&error) => return Err(Failure::OutOfPorts),
                Some(Err(error)) if is_own_fault(&error) => self.wait_for_descriptors().await?,
                Some(Err(_)) => return Err(Failure::NotConnected),
            }
        }
    }

    /// Gives back the descriptors that are not needed and lets others end.
    async fn wait_for_descriptors(&self) -> Result<(), Failure> {
        self.worker.pool.clear();
        let pause = self.worker.clock.watch();
        pause.set(TICK);
        poll_fn(|context| {
            if self.client.watch.expired(context) {
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
        turn: &InFlight,
        socket: Socket,
        buffers: &mut RequestBuffers,
    ) -> Result<After, Failure> {
        buffers.server.clear();
        self.progress.start(false);
        let delivered = self.pass(turn, Way::Own(&socket), Instant::now(), buffers).await?;
        if delivered.switched {
            // The head stays where it is until it is logged.
            buffers.body = self.worker.buffer_pool.small();
            buffers.body.extend(&buffers.client.filled()[self.head.length..]);
            self.streamed = true;
            let _tunnel = turn.tunnel();
            tunnel::run(self.client, turn, &socket, buffers, self.config.timeouts.upgrade).await;
            return Ok(After::Abort);
        }
        // Bytes after the answer were not asked for: nobody may get them.
        if delivered.server_keeps && buffers.server.is_empty() && turn.is_available() {
            self.worker.pool.give_back(turn, socket, self.worker.clock.last_tick());
        }
        Ok(if delivered.client_reusable { After::Keep } else { After::Close })
    }

    /// A place on a connection that requests share, if this one may.
    fn join(&self, server: &Arc<Server>, buffers: &RequestBuffers) -> Option<PipelineSlot> {
        let head = self.head;
        if !head.method.is_safe() || self.streamed || head.framing != Framing::None || head.upgrade.is_some()
        {
            return None;
        }
        let Worker { pipelines, pool, clock, .. } = self.worker;
        pipelines.join(server, &buffers.request, pool, clock.last_tick())
    }

    async fn try_shared(
        &self,
        turn: &InFlight,
        slot: PipelineSlot,
        buffers: &mut RequestBuffers,
    ) -> Result<After, Failure> {
        let sent = Instant::now();
        self.progress.start(true);
        self.client.watch.set(self.config.timeouts.response);
        poll_fn(|context| match slot.poll_turn(context) {
            Poll::Ready(true) => Poll::Ready(Ok(())),
            Poll::Ready(false) => Poll::Ready(Err(Failure::Displaced)),
            Poll::Pending => match self.interruption(context, turn, &mut buffers.client) {
                Some(failure) => Poll::Ready(Err(failure)),
                None => Poll::Pending,
            },
        })
        .await?;
        slot.swap_incoming(&mut buffers.server);
        let delivered = self.pass(turn, Way::Shared(&slot), sent, buffers).await?;
        slot.swap_incoming(&mut buffers.server);
        let Worker { pipelines, clock, .. } = self.worker;
        slot.settle(pipelines, delivered.server_keeps && turn.is_available(), clock.last_tick());
        Ok(if delivered.client_reusable { After::Keep } else { After::Close })
    }

    /// Sends the request over one connection and passes the answer on, both directions at the same time. `started` is
    /// when the server was first given some of it.
    async fn pass(
        &self,
        turn: &InFlight,
        way: Way<'_>,
        started: Instant,
        buffers: &mut RequestBuffers,
    ) -> Result<Delivered, Failure> {
        let Self { worker, client, config, head, progress, .. } = self;
        let mut decoder = self.decoder;
        client.watch.set(config.timeouts.response);
        let socket = way.socket();
        let mut upload = Upload {
            client,
            server: socket,
            timeouts: &config.timeouts,
            buffer_pool: &worker.buffer_pool,
            progress,
            outgoing: &buffers.request,
            body: &mut buffers.body,
            decoder: &mut decoder,
            written: match way {
                Way::Own(_) => 0,
                Way::Shared(_) => buffers.request.len(),
            },
            ready: 0,
        };
        let download = Download {
            client,
            servers: &worker.shared.servers,
            server: turn,
            socket,
            config,
            buffer_pool: &worker.buffer_pool,
            progress,
            asked: Asked { method: head.method, upgrade: head.upgrade.is_some() },
            version: head.version,
            keep_alive: head.keep_alive && !worker.is_stopping(),
            incoming: &mut buffers.server,
            output: &mut buffers.response,
            started,
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
                    Poll::Ready(Err(UploadFailure::Server)) if !progress.accepted.get() => {
                        return Poll::Ready(Err(Failure::Closed));
                    }
                    // The server takes no more, but its answer may already be on the way.
                    Poll::Ready(Err(UploadFailure::Server)) => uploading = false,
                }
            }
            if let Poll::Ready(delivered) = download.as_mut().poll(context) {
                return Poll::Ready(delivered.map_err(Failure::from));
            }
            if let (Way::Shared(slot), Some(_)) = (way, progress.first_byte.get()) {
                slot.has_begun();
            }
            let ahead = match (uploading, self.streamed) {
                (true, _) => &mut Buffer::none(),
                (false, true) => &mut *upload.body,
                (false, false) => &mut buffers.client,
            };
            match self.interruption(context, turn, ahead) {
                Some(failure) => Poll::Ready(Err(failure)),
                None => Poll::Pending,
            }
        })
        .await?;
        if let Some(after) = progress.first_byte.get() {
            turn.answered(progress.status.get(), after);
        }
        Ok(delivered)
    }

    /// Why an answer that is not there yet is not waited for any more. What the client sends meanwhile goes to
    /// `ahead`, as far as that has room.
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
            if progress.answering.get() && progress.is_event_stream.get() {
                // Nobody who reads on ends its direction in the midst of events.
                return Some(Failure::ClientGone);
            }
            if !progress.waits_for_reader.get() {
                client.watch.set(client.patience(config.timeouts.response));
            }
        }
        if client.watch.expired(context) {
            return Some(if progress.waits_for_client.get() {
                Failure::ClientTimeout
            } else if progress.waits_for_reader.get() || client.has_ended() {
                Failure::ClientGone
            } else {
                Failure::ServerTimeout
            });
        }
        server.is_cut_off().then_some(Failure::CutOff)
    }
}
