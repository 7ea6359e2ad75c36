//! A worker's event loop: accepts connections, runs the clock and sweeps idle connections until it is stopped.

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

/// How often idle connections to servers are swept.
const SWEEP: Duration = Duration::from_secs(1);

/// Serves `listeners` until `stop` is set. Then it stops accepting, and returns when no connection is left or the drain
/// time is over.
///
/// # Errors
/// The runtime cannot be built, or a task of the event loop has panicked.
pub(crate) fn run(
    shared: Arc<Shared>,
    listeners: watch::Receiver<Arc<Vec<Listening>>>,
    index: usize,
    access_log: LogHandle,
    stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let served = runtime.block_on(serve(Rc::new(Worker::new(shared, index, access_log)), listeners, stop));
    // The lookup of a name, which can take 10 s, and the hash of a password cannot be cancelled, and are not waited for.
    runtime.shutdown_background();
    served
}

async fn serve(
    worker: Rc<Worker>,
    listeners: watch::Receiver<Arc<Vec<Listening>>>,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn_local(run_clock(Rc::clone(&worker)));
    tasks.spawn_local(sweep(Rc::clone(&worker)));
    tasks.spawn_local(send(Rc::clone(&worker)));
    let mut listening = spawn_local(listen(Rc::clone(&worker), listeners, stop.clone()));
    let stopped = tokio::select! {
        // An error means that the sender was dropped: that is a stop, too.
        _ = stop.wait_for(|stop| *stop) => true,
        _ = tasks.join_next() => false,
        // This task waits for the same signal and may finish first.
        ended = &mut listening => ended.is_ok(),
    };
    if !stopped {
        return Err(std::io::Error::other("a task of the event loop ended"));
    }
    worker.stop();
    if !listening.is_finished() {
        // A panic of this task was already reported by its hook.
        let _ = listening.await;
    }
    let _ = tokio::time::timeout(*worker.config().drain, worker.finished()).await;
    Ok(())
}

/// Accepts connections on the listeners, and follows their changes.
async fn listen(
    worker: Rc<Worker>,
    mut listeners: watch::Receiver<Arc<Vec<Listening>>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut accepting: Vec<(SocketAddr, watch::Sender<bool>)> = Vec::new();
    let mut tasks = JoinSet::new();
    loop {
        let wanted = Arc::clone(&listeners.borrow_and_update());
        // Dropping the sender stops the accept task.
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

async fn run_clock(worker: Rc<Worker>) {
    let cut_offs = Cell::new(worker.shared.pools.cut_offs());
    let was_stopping = Cell::new(false);
    worker
        .clock
        .run(|| {
            worker.pipelines.tick(worker.clock.last_tick());
            // Requests on a server that is cut off, and idle connections when draining begins, have to be woken.
            let (now, is_stopping) = (worker.shared.pools.cut_offs(), worker.is_stopping());
            cut_offs.replace(now) != now || was_stopping.replace(is_stopping) != is_stopping
        })
        .await;
}

async fn sweep(worker: Rc<Worker>) {
    let mut interval = tokio::time::interval(SWEEP);
    loop {
        interval.tick().await;
        let (timeout, now) = (*worker.config().timeouts.server_idle, Instant::now());
        worker.pool.sweep(timeout, now);
        worker.pipelines.sweep(timeout, now);
    }
}

/// Sends pipelined requests.
async fn send(worker: Rc<Worker>) {
    std::future::poll_fn(|context| worker.pipelines.poll_send(context)).await;
}
