//! A worker thread: its own event loop and connection pool. Requests share only read-only state with other threads.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tercet_observe::Log;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::LocalSet;

use super::head_filter::{ConnectionState, HeadFilter, REJECTED};
use super::linger::Lingering;
use super::listener;
use super::respond;
use super::state::Shared;
use super::worker::Worker;
use crate::pool::Options;

/// A message to a worker thread.
#[derive(Debug)]
pub(super) enum Work {
    /// Serve this connection.
    Serve(listener::Incoming),
    /// The schema cache or the configuration was replaced.
    SchemaChanged,
    /// The database is unreachable.
    Outage,
    /// Finish the requests in flight within this time, and end.
    Stop(Duration),
}

/// A handle to a worker thread.
#[derive(Debug)]
pub(super) struct Handle {
    work: mpsc::UnboundedSender<Work>,
    ended: oneshot::Receiver<()>,
}

impl Handle {
    /// Starts the thread.
    pub(super) fn start(number: usize, shared: Arc<Shared>, options: Options, log: &Log) -> io::Result<Self> {
        let (work, messages) = mpsc::unbounded_channel();
        let (ending, ended) = oneshot::channel();
        let log = log.handle();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name(format!("api-{number}")).spawn(move || {
            LocalSet::new()
                .block_on(&runtime, async { run(Worker::new(shared, options, log), messages).await });
            let _ = ending.send(());
        })?;
        Ok(Self { work, ended })
    }

    /// Sends a message; without effect once the thread has ended.
    pub(super) fn send(&self, work: Work) {
        let _ = self.work.send(work);
    }

    /// Waits for the thread to end.
    pub(super) async fn join(self) {
        let _ = self.ended.await;
    }
}

async fn run(worker: Worker, mut messages: mpsc::UnboundedReceiver<Work>) {
    let worker = Rc::new(worker);
    let (shutdown, stop) = watch::channel(false);
    // Each connection holds a sender; the channel closes when the last connection is done.
    let (alive, mut all_closed) = mpsc::channel::<Infallible>(1);
    let deadline = loop {
        match messages.recv().await {
            Some(Work::Serve(incoming)) => {
                let connection = serve(Rc::clone(&worker), incoming, stop.clone());
                let alive = alive.clone();
                tokio::task::spawn_local(async move {
                    connection.await;
                    drop(alive);
                });
            }
            Some(Work::SchemaChanged) => worker.apply_settings(),
            Some(Work::Outage) => worker.pool.close_unresponsive(),
            Some(Work::Stop(deadline)) => break deadline,
            None => break Duration::ZERO,
        }
    };
    drop(alive);
    let _ = shutdown.send(true);
    // Connections that take longer are cut off.
    let _ = tokio::time::timeout(deadline, all_closed.recv()).await;
}

async fn serve(worker: Rc<Worker>, incoming: listener::Incoming, stop: watch::Receiver<bool>) {
    match incoming {
        listener::Incoming::Tcp(stream, peer) => {
            if let Ok(stream) = TcpStream::from_std(stream) {
                serve_stream(worker, stream, Some(peer), stop).await;
            }
        }
        listener::Incoming::Unix(stream) => {
            if let Ok(stream) = UnixStream::from_std(stream) {
                serve_stream(worker, stream, None, stop).await;
            }
        }
    }
}

async fn serve_stream(
    worker: Rc<Worker>,
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
    peer: Option<IpAddr>,
    mut stop: watch::Receiver<bool>,
) {
    let state = Rc::new(ConnectionState::default());
    let stream = HeadFilter::new(Lingering::new(stream), Rc::clone(&state));
    let service = service_fn(move |request: Request<Incoming>| {
        let (worker, state) = (Rc::clone(&worker), Rc::clone(&state));
        async move {
            let _in_flight = state.in_flight();
            let rejection = state.rejection.borrow_mut().take_if(|_| request.method() == REJECTED);
            Ok::<_, Infallible>(match rejection {
                Some(rejection) => respond::reject(&worker, peer, &rejection),
                None => respond::respond(&worker, peer, request).await,
            })
        }
    });
    // the stream enforces the timeout itself: it knows when a head has started
    let connection =
        http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // An error here means that the client disconnected: there is nothing to answer.
    tokio::select! {
        biased;
        _ = connection.as_mut() => {}
        _ = stop.wait_for(|shutdown| *shutdown) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
