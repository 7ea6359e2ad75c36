//! A balancer inside one process: one thread for each worker, and a housekeeping thread for health checks, the
//! admin endpoints and periodic tasks.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tercet_observe::Log;
use tercet_observe::event::ProcessEvent;
use tokio::runtime::LocalOptions;
use tokio::sync::{Mutex, mpsc, watch};

use crate::active::Active;
use crate::bind_address::BindAddresses;
use crate::challenges::Challenge;
use crate::config::Config;
use crate::listening::{Listening, worker_count};
use crate::pools::Pools;
use crate::shared::{ReloadReply, Shared};
use crate::{admin, event_loop, health};

/// How often certificate files are checked for changes and rate limits are swept.
const HOUSEKEEPING: Duration = Duration::from_secs(2);
/// How often the file that turns maintenance on is looked for.
const MAINTENANCE: Duration = Duration::from_millis(500);

/// A running balancer.
#[derive(Debug)]
pub struct Balancer {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    reloaded: watch::Sender<()>,
    listening: watch::Sender<Arc<Vec<Listening>>>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    housekeeping: Option<JoinHandle<io::Result<()>>>,
    thread_exited: Mutex<mpsc::Receiver<()>>,
}

impl Balancer {
    /// Starts serving `listeners`. Events go to `log`, requests to `access_log`, reload requests of the admin socket
    /// to `reload_requests`.
    ///
    /// # Errors
    /// A certificate or a file with users cannot be used, or a thread cannot be spawned.
    pub fn start(
        config: Config,
        listeners: Vec<Listening>,
        log: &Log,
        access_log: &Log,
        reload_requests: mpsc::Sender<ReloadReply>,
    ) -> io::Result<Self> {
        let count = worker_count(&config);
        let events = log.handle();
        for address in listeners.iter().filter_map(Listening::local_address) {
            events.event(ProcessEvent::Listening { address: &address.to_string(), purpose: "HTTP" });
        }
        let challenges = Arc::default();
        let bind_addresses = BindAddresses::load(&config, &challenges, None).map_err(io::Error::other)?;
        let pools = Pools::new(events.clone());
        let prepared = pools.prepare(&config);
        let config = Active::load(config, &prepared, None, &events)?;
        pools.configure(&config, prepared);
        let logs = (events, access_log.handle());
        let shared =
            Arc::new(Shared::new(config, pools, bind_addresses, challenges, count, logs, reload_requests));
        // Before the first request.
        shared.refresh_maintenance();
        let (stop, stopped) = watch::channel(false);
        let (reloaded, reloads) = watch::channel(());
        let (listening, listened) = watch::channel(Arc::new(listeners));
        let (exit, thread_exited) = mpsc::channel(1);
        let mut workers = Vec::with_capacity(count);
        for index in 0..count {
            let (shared, access_log) = (Arc::clone(&shared), access_log.handle());
            let (listened, stopped, exit) = (listened.clone(), stopped.clone(), ExitNotice(exit.clone()));
            let worker = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let _exit = exit;
                event_loop::run(shared, listened, index, access_log, stopped)
            })?;
            workers.push(worker);
        }
        let housekeeping = std::thread::Builder::new().name("housekeeping".into()).spawn({
            let shared = Arc::clone(&shared);
            let exit = ExitNotice(exit);
            move || {
                let _exit = exit;
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
            thread_exited: Mutex::new(thread_exited),
        })
    }

    /// Applies another configuration, all of it or nothing; connections, health and counters are kept. `bound` holds
    /// the sockets of new addresses; the sockets of removed addresses are closed. The number of workers does not
    /// change.
    ///
    /// # Errors
    /// A certificate or a file with users cannot be used, or traces cannot be sent.
    pub fn reload(&self, config: Config, bound: Vec<Listening>) -> io::Result<()> {
        let before = self.shared.bind_addresses.load();
        let bind_addresses =
            BindAddresses::load(&config, &self.shared.challenges, Some(&before)).map_err(io::Error::other)?;
        let Shared { pools, events, .. } = &*self.shared;
        let prepared = pools.prepare(&config);
        let config = Active::load(config, &prepared, Some(&self.shared.config.load()), events)?;
        pools.configure(&config, prepared);
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
        self.shared.refresh_maintenance();
        self.listening.send_replace(Arc::new(listening));
        self.reloaded.send_replace(());
        Ok(())
    }

    /// Answers these challenges of the certificate authority from now on, and no others.
    pub(crate) fn set_challenges(&self, challenges: Vec<Challenge>) {
        self.shared.challenges.set(challenges);
    }

    /// Loads certificates whose files have changed now, instead of within seconds.
    pub(crate) fn refresh_certificates(&self) {
        refresh_certificates(&self.shared);
    }

    /// Waits until a thread exits although the balancer was not stopped.
    pub async fn thread_exited(&self) {
        self.thread_exited.lock().await.recv().await;
    }

    /// Stops accepting connections, waits up to the configured drain time for requests to finish, and joins the
    /// threads.
    ///
    /// # Errors
    /// A thread failed or panicked.
    pub fn stop(mut self) -> io::Result<()> {
        self.stop.send_replace(true);
        // The last owner closes the sockets, so that new connections are refused instead of queued.
        self.listening.send_replace(Arc::default());
        let threads = self.workers.drain(..).chain(self.housekeeping.take());
        let mut outcome = Ok(());
        for thread in threads {
            let result = thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")));
            outcome = outcome.and(result);
        }
        if let Some(tracer) = &self.shared.config.load().tracer {
            tracer.flush();
        }
        outcome
    }
}

/// Reports that the thread that owns it has exited, by returning or by a panic.
struct ExitNotice(mpsc::Sender<()>);

impl Drop for ExitNotice {
    fn drop(&mut self) {
        // A full channel holds a notice already.
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
        tokio::task::spawn_local(run_periodic_tasks(Arc::clone(shared)));
        tokio::task::spawn_local(watch_maintenance(Arc::clone(shared)));
        tokio::task::spawn_local(resolve_names(Arc::clone(shared)));
        let mut admin = tokio::task::spawn_local(admin::serve(Arc::clone(shared)));
        let mut current = shared.config.load().admin.clone();
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                _ = reloads.changed() => {}
                () = health::check_all(Arc::clone(shared)) => {}
            }
            let wanted = &shared.config.load().admin;
            if *wanted != current {
                // Requests in flight (such as the reload itself) run in their own tasks and are not aborted.
                admin.abort();
                admin = tokio::task::spawn_local(admin::serve(Arc::clone(shared)));
                current = wanted.clone();
            }
        }
    });
    // The lookup of a name cannot be cancelled, and is not waited for.
    runtime.shutdown_background();
    Ok(())
}

/// Reloads changed certificates and drops the rate-limit state of idle clients.
async fn run_periodic_tasks(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(HOUSEKEEPING);
    loop {
        interval.tick().await;
        refresh_certificates(&shared);
        shared.limits.sweep(&shared.config.load().limits, std::time::Instant::now());
    }
}

async fn watch_maintenance(shared: Arc<Shared>) {
    let mut interval = tokio::time::interval(MAINTENANCE);
    loop {
        interval.tick().await;
        shared.refresh_maintenance();
    }
}

/// Resolves the names of servers again, one after the other.
async fn resolve_names(shared: Arc<Shared>) {
    loop {
        for server in shared.pools.all().iter().flat_map(|pool| pool.all()) {
            server.upstream.resolve().await;
        }
        let interval = *shared.config.load().resolve_interval;
        tokio::time::sleep(interval).await;
    }
}

fn refresh_certificates(shared: &Shared) {
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
}
