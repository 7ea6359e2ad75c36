//! The whole balancer inside one process: workers on threads of their own, and one more thread for health,
//! admin and whatever else is not on a request's way.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tercet_observe::Log;
use tercet_observe::event::ProcessEvent;
use tokio::runtime::LocalOptions;
use tokio::sync::{Mutex, mpsc, watch};

use crate::bind_address::BindAddresses;
use crate::config::Config;
use crate::listening::{Listening, worker_count};
use crate::shared::{ReloadReply, Shared};
use crate::tls::TlsError;
use crate::{admin, event_loop, health};

/// How often files that may have changed are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(2);

/// A running balancer.
#[derive(Debug)]
pub struct Balancer {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    reloaded: watch::Sender<()>,
    listening: watch::Sender<Arc<Vec<Listening>>>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    housekeeping: Option<JoinHandle<io::Result<()>>>,
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Balancer {
    /// Starts serving `listeners`. Events go to `log`, requests to `access_log`, wishes of the admin socket for
    /// another configuration to `reload_wanted`.
    ///
    /// # Errors
    /// Threads or event loops cannot be made.
    pub fn start(
        config: Config,
        listeners: Vec<Listening>,
        log: &Log,
        access_log: &Log,
        reload_wanted: mpsc::Sender<ReloadReply>,
    ) -> io::Result<Self> {
        let count = worker_count(&config);
        let events = log.handle();
        for address in listeners.iter().filter_map(Listening::local_address) {
            events.event(ProcessEvent::Listening { address: &address.to_string(), purpose: "HTTP" });
        }
        let bind_addresses = BindAddresses::load(&config, None).map_err(io::Error::other)?;
        let shared = Arc::new(Shared::new(config, bind_addresses, count, events, reload_wanted));
        let (stop, stopped) = watch::channel(false);
        let (reloaded, reloads) = watch::channel(());
        let (listening, listened) = watch::channel(Arc::new(listeners));
        let (end, ended) = mpsc::channel(1);
        let mut workers = Vec::with_capacity(count);
        for index in 0..count {
            let (shared, access_log) = (Arc::clone(&shared), access_log.handle());
            let (listened, stopped, end) = (listened.clone(), stopped.clone(), Ending(end.clone()));
            let worker = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let _end = end;
                event_loop::run(shared, listened, index, access_log, stopped)
            })?;
            workers.push(worker);
        }
        let housekeeping = std::thread::Builder::new().name("housekeeping".into()).spawn({
            let shared = Arc::clone(&shared);
            let end = Ending(end);
            move || {
                let _end = end;
                housekeeping(&shared, reloads, stopped)
            }
        })?;
        Ok(Self {
            shared,
            stop,
            reloaded,
            listening,
            workers,
            housekeeping: Some(housekeeping),
            ended: Mutex::new(ended),
        })
    }

    /// Puts another configuration in force, all of it or nothing; connections, health and counts stay.
    /// `bound` holds the sockets of addresses that are new; those that are not named any more are closed. The
    /// number of workers does not change.
    ///
    /// # Errors
    /// Certificates that cannot be used.
    pub fn reload(&self, config: Config, bound: Vec<Listening>) -> Result<(), TlsError> {
        let bind_addresses = BindAddresses::load(&config, Some(&self.shared.bind_addresses.load()))?;
        self.shared.servers.configure(&config);
        self.shared.bind_addresses.store(Arc::new(bind_addresses));
        let mut listening = Vec::new();
        for before in self.listening.borrow().iter() {
            if config.listen.iter().any(|listen| listen.address == before.address)
                && let Ok(same) = before.try_clone()
            {
                listening.push(same);
            }
        }
        listening.extend(bound);
        self.shared.config.store(Arc::new(config));
        self.listening.send_replace(Arc::new(listening));
        self.reloaded.send_replace(());
        Ok(())
    }

    /// Waits until a thread ends that should not: then the balancer is not whole any more.
    pub async fn broken(&self) {
        self.ended.lock().await.recv().await;
    }

    /// Stops taking connections, lets requests finish for the configured drain time, and ends.
    ///
    /// # Errors
    /// A thread failed or panicked.
    pub fn stop(mut self) -> io::Result<()> {
        self.stop.send_replace(true);
        // The sockets close with their last holder: clients are to be refused, not to wait for nobody.
        self.listening.send_replace(Arc::default());
        let threads = self.workers.drain(..).chain(self.housekeeping.take());
        let mut outcome = Ok(());
        for thread in threads {
            let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")));
            outcome = outcome.and(ended);
        }
        outcome
    }
}

/// Tells when the thread that holds it ends, in whatever way.
struct Ending(mpsc::Sender<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        // One is enough.
        let _ = self.0.try_send(());
    }
}

fn housekeeping(
    shared: &Arc<Shared>,
    mut reloads: watch::Receiver<()>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    runtime.block_on(async {
        tokio::task::spawn_local(health::end_deadlines(Arc::clone(shared)));
        tokio::task::spawn_local(keep_house(Arc::clone(shared)));
        let mut admin = tokio::task::spawn_local(admin::serve(Arc::clone(shared)));
        let mut served = shared.config.load().admin.clone();
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = reloads.changed() => {}
                () = health::check_all(Arc::clone(shared)) => {}
            }
            let wanted = &shared.config.load().admin;
            if *wanted != served {
                // What is being answered (the reload itself, say) has a task of its own and goes on.
                admin.abort();
                admin = tokio::task::spawn_local(admin::serve(Arc::clone(shared)));
                served = wanted.clone();
            }
        }
    });
    Ok(())
}

/// Reads certificates that changed, and forgets clients that have not been seen for a while.
async fn keep_house(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(HOUSEKEEPING);
    loop {
        interval.tick().await;
        for tls in shared.bind_addresses.load().iter().filter_map(|bind_address| bind_address.tls.as_ref()) {
            match tls.refresh() {
                Ok(false) => {}
                Ok(true) => shared.events.event(ProcessEvent::ConfigurationLoaded { source: "certificates" }),
                Err(error) => shared.events.event(ProcessEvent::ConfigurationRefused {
                    source: "certificates",
                    reason: &error.to_string(),
                }),
            }
        }
        shared.limits.sweep(&shared.config.load().limits, std::time::Instant::now());
    }
}
