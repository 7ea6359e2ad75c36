//! A worker's event loop: accepting, the clock, the looking after of connections, until it is told to stop.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tercet_observe::LogHandle;
use tercet_observe::event::ProcessEvent;
use tokio::net::TcpListener;
use tokio::runtime::LocalOptions;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::Instant;

use crate::listener;
use crate::listening::Listening;
use crate::shared::Shared;
use crate::worker::Worker;

/// How often connections to servers that nobody used are looked through.
const SWEEP: Duration = Duration::from_secs(1);

/// Serves `listeners` until `stop` says so; then takes no more connections, lets requests finish and
/// returns when none is left or the drain time is over.
///
/// # Errors
/// The event loop could not be made, or part of it has panicked: half a worker is worse than none.
pub(crate) fn run(
    shared: Arc<Shared>,
    listeners: watch::Receiver<Arc<Vec<Listening>>>,
    index: usize,
    access_log: LogHandle,
    stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(serve(Rc::new(Worker::new(shared, index, access_log)), listeners, stop))
}

async fn serve(
    worker: Rc<Worker>,
    listeners: watch::Receiver<Arc<Vec<Listening>>>,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut parts = JoinSet::new();
    parts.spawn_local(keep_time(Rc::clone(&worker)));
    parts.spawn_local(sweep(Rc::clone(&worker)));
    parts.spawn_local(send(Rc::clone(&worker)));
    let mut listening = spawn_local(listen(Rc::clone(&worker), listeners, stop.clone()));
    let stopped = tokio::select! {
        // The sender going away means the same.
        _ = stop.wait_for(|stop| *stop) => true,
        _ = parts.join_next() => false,
        // It may hear of it first.
        ended = &mut listening => ended.is_ok(),
    };
    if !stopped {
        return Err(std::io::Error::other("a part of the event loop ended"));
    }
    worker.stop();
    if !listening.is_finished() {
        // It ends by itself; only a panic in it could be reported here, and that has been.
        let _ = listening.await;
    }
    let _ = tokio::time::timeout(worker.config().drain, worker.finished()).await;
    Ok(())
}

/// Accepts on whatever is listened on, as that changes.
async fn listen(
    worker: Rc<Worker>,
    mut listeners: watch::Receiver<Arc<Vec<Listening>>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut accepting: Vec<(SocketAddr, watch::Sender<bool>)> = Vec::new();
    let mut tasks = JoinSet::new();
    loop {
        let wanted = Arc::clone(&listeners.borrow_and_update());
        // Dropping the sender ends the accepting.
        accepting.retain(|(address, _)| wanted.iter().any(|listening| listening.address == *address));
        for listening in wanted.iter() {
            if accepting.iter().any(|(address, _)| *address == listening.address) {
                continue;
            }
            match listening.socket_of(worker.index).and_then(TcpListener::from_std) {
                Ok(listener) => {
                    let (until, stopped) = watch::channel(false);
                    let address = listening.address;
                    tasks.spawn_local(listener::accept(Rc::clone(&worker), address, listener, stopped));
                    accepting.push((address, until));
                }
                Err(error) => {
                    let reason = format!("{}: {error}", listening.address);
                    worker.shared.events.event(ProcessEvent::Failed { reason: &reason });
                }
            }
        }
        tokio::select! {
            changed = listeners.changed() => if changed.is_err() { break },
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    drop(accepting);
    while tasks.join_next().await.is_some() {}
}

async fn keep_time(worker: Rc<Worker>) {
    let cut_offs = Cell::new(worker.shared.servers.cut_offs());
    let told_to_stop = Cell::new(false);
    worker
        .clock
        .run(|| {
            worker.pipelines.tick(worker.clock.last_tick());
            // Whoever waits for a server that is to be cut off is to notice, and so are idle connections when the
            // balancer stops.
            let now = worker.shared.servers.cut_offs();
            cut_offs.replace(now) != now || told_to_stop.replace(worker.is_stopping()) != worker.is_stopping()
        })
        .await;
}

async fn sweep(worker: Rc<Worker>) {
    let mut interval = tokio::time::interval(SWEEP);
    loop {
        interval.tick().await;
        let (timeout, now) = (worker.config().timeouts.server_idle, Instant::now());
        worker.pool.sweep(timeout, now);
        worker.pipelines.sweep(timeout, now);
    }
}

/// Sends the requests that share connections.
async fn send(worker: Rc<Worker>) {
    std::future::poll_fn(|context| worker.pipelines.poll_send(context)).await;
}
