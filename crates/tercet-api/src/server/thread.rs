//! One thread that serves connections: its own event loop, its own connections to PostgreSQL, nothing
//! shared on a request's way but what is only read.

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

use super::linger::Lingering;
use super::listener;
use super::respond;
use super::state::Shared;
use super::vetted::{Notes, REFUSED, Vetted};
use super::worker::Worker;
use crate::pool::Options;

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Work {
    /// Serve a connection.
    Serve(listener::Incoming),
    /// The schema has changed.
    SchemaChanged,
    /// The database cannot be reached.
    Outage,
    /// Finish what is in flight, for so long at most, and end.
    Stop(Duration),
}

/// A worker, seen from outside.
#[derive(Debug)]
pub(super) struct Handle {
    work: mpsc::UnboundedSender<Work>,
    ended: oneshot::Receiver<()>,
}

impl Handle {
    /// Starts a thread.
    pub(super) fn start(number: usize, shared: Arc<Shared>, options: Options, log: &Log) -> io::Result<Self> {
        let (work, received) = mpsc::unbounded_channel();
        let (ending, ended) = oneshot::channel();
        let log = log.handle();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name(format!("api-{number}")).spawn(move || {
            LocalSet::new()
                .block_on(&runtime, async { run(Worker::new(shared, options, log), received).await });
            let _ = ending.send(());
        })?;
        Ok(Self { work, ended })
    }

    /// Tells the worker something; one that has ended hears nothing.
    pub(super) fn tell(&self, work: Work) {
        let _ = self.work.send(work);
    }

    /// Waits for the thread's end.
    pub(super) async fn ended(self) {
        let _ = self.ended.await;
    }
}

async fn run(worker: Worker, mut received: mpsc::UnboundedReceiver<Work>) {
    let worker = Rc::new(worker);
    let (stopping, stop) = watch::channel(false);
    // Every connection holds an end; when the last is gone, the thread is done.
    let (alive, mut all_gone) = mpsc::channel::<Infallible>(1);
    let deadline = loop {
        match received.recv().await {
            Some(Work::Serve(incoming)) => {
                let connection = serve(Rc::clone(&worker), incoming, stop.clone());
                let alive = alive.clone();
                tokio::task::spawn_local(async move {
                    connection.await;
                    drop(alive);
                });
            }
            Some(Work::SchemaChanged) => worker.follow(),
            Some(Work::Outage) => worker.pool.close_silent(),
            Some(Work::Stop(deadline)) => break deadline,
            None => break Duration::ZERO,
        }
    };
    drop(alive);
    let _ = stopping.send(true);
    // What takes longer is cut off.
    let _ = tokio::time::timeout(deadline, all_gone.recv()).await;
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
    let notes = Rc::new(Notes::default());
    let stream = Vetted::new(Lingering::new(stream), Rc::clone(&notes));
    let service = service_fn(move |request: Request<Incoming>| {
        let (worker, notes) = (Rc::clone(&worker), Rc::clone(&notes));
        async move {
            let _answering = notes.answering();
            let refusal = notes.refusal.borrow_mut().take_if(|_| request.method() == REFUSED);
            Ok::<_, Infallible>(match refusal {
                Some(refusal) => respond::refuse(&worker, peer, &refusal),
                None => respond::respond(&worker, peer, request).await,
            })
        }
    });
    // the stream keeps time itself: it knows whether a head has begun
    let connection =
        http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A client that breaks off has nobody left to tell.
    tokio::select! {
        biased;
        _ = connection.as_mut() => {}
        _ = stop.wait_for(|stopping| *stopping) => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}
