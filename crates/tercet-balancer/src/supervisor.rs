//! The supervisor process: holds the listening sockets and keeps a worker process running that serves them.
//!
//! A second process obtains certificates; see [`certificates`](crate::certificates).
//!
//! The worker is the same program in another process. When it dies, the next one gets the same sockets: connections
//! made meanwhile wait in the kernel's accept queue and none is refused. The supervisor never handles a request.

pub mod certificates;
mod channel;
mod issuer;
pub mod worker;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tercet_observe::LogHandle;
use tercet_observe::event::{BalancerEvent, ProcessEvent};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use self::channel::{Channel, FromCertificates, FromWorker, ToWorker};
use self::issuer::Issuer;
use crate::config::{self, Config};
use crate::listening::Listening;

/// The uptime from which on a worker is restarted without backoff.
const MIN_UPTIME: Duration = Duration::from_secs(1);
/// The first restart backoff; each failed start doubles it.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// The longest restart backoff.
const MAX_BACKOFF: Duration = Duration::from_secs(2);
/// How long a process that has closed its channel has to exit before it is killed.
const EXIT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a worker has to exit after its drain time before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A supervisor with its sockets.
#[derive(Debug)]
pub struct Supervisor {
    file: PathBuf,
    config: Config,
    listening: Vec<Listening>,
    programs: Programs,
    events: LogHandle,
    pending_reloads: PendingReloads,
}

/// Reload requests that were not started yet.
#[derive(Debug, Default)]
struct PendingReloads {
    /// Whether a SIGHUP requested one.
    by_signal: bool,
    /// The ids of requests on the admin socket of the running worker.
    ids: Vec<u64>,
}

/// A process that the supervisor starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves requests: has to call [`worker::run`].
    Worker,
    /// Obtains certificates: has to call [`certificates::run`].
    Certificates,
}

/// Makes the command that starts a process.
struct Programs(Box<dyn Fn(Role) -> std::process::Command>);

impl Programs {
    /// Starts a process with its end of the channel as standard input.
    fn spawn(&self, role: Role, channel: OwnedFd) -> io::Result<Child> {
        let mut command = Command::from((self.0)(role));
        // Its own process group, so that Ctrl-C in a terminal signals only the supervisor.
        command.stdin(channel).process_group(0).kill_on_drop(true);
        command.spawn()
    }
}

impl std::fmt::Debug for Programs {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Programs")
    }
}

/// A worker process and the channel to it.
struct Worker {
    child: Child,
    channel: Channel,
    started: Instant,
    is_ready: bool,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    reopen: Signal,
}

impl Supervisor {
    /// Uses the sockets in `given` (from systemd socket activation) and binds the remaining addresses. `program`
    /// makes the command that starts a process of a role.
    ///
    /// # Errors
    /// An address is in use or not permitted, or a given socket's address is not configured. The message names the
    /// address.
    pub fn new(
        file: &Path,
        config: Config,
        given: Vec<std::net::TcpListener>,
        program: impl Fn(Role) -> std::process::Command + 'static,
        events: LogHandle,
    ) -> io::Result<Self> {
        let mut listening = Vec::new();
        for socket in given {
            let address = socket.local_addr()?;
            if !config.listen.iter().any(|listen| listen.address == address) {
                return Err(io::Error::other(format!(
                    "systemd passed a socket for {address}, which is not a configured listen address\nhint: make \
                     `listen` and the socket unit agree"
                )));
            }
            add_all(&mut listening, address, vec![socket]);
        }
        let missing = bind_missing(&config, &listening)?;
        listening.extend(missing);
        Ok(Self {
            file: file.to_owned(),
            config,
            listening,
            programs: Programs(Box::new(program)),
            events,
            pending_reloads: PendingReloads::default(),
        })
    }

    /// Keeps a worker running until SIGTERM or SIGINT, then lets it finish its requests. SIGHUP reloads the
    /// configuration, SIGUSR1 reopens the access log. A worker that dies is restarted.
    ///
    /// # Errors
    /// The first worker cannot be started, or exits before it serves.
    pub async fn run(mut self) -> io::Result<()> {
        let mut signals = Signals::install()?;
        let mut issuer = Issuer::new(&self.config)?;
        let mut worker = Some(self.start(&issuer).await?);
        let mut backoff = FIRST_BACKOFF;
        let mut next_start = Instant::now();
        let mut has_served = false;
        let reason = loop {
            tokio::select! {
                _ = signals.terminate.recv() => break "SIGTERM",
                _ = signals.interrupt.recv() => break "SIGINT",
                // A new worker opens the log anyway; the death of this one is handled below.
                _ = signals.reopen.recv() => if let Some(worker) = &mut worker {
                    let _ = worker.channel.send(&ToWorker::ReopenLogs, &[]).await;
                },
                _ = signals.hang_up.recv() => self.pending_reloads.by_signal = true,
                received = receive(&mut worker) => match received {
                    Ok((FromWorker::ReloadRequested { id }, _)) => self.pending_reloads.ids.push(id),
                    Ok((FromWorker::Ready, _)) => {
                        if let Some(worker) = &mut worker {
                            worker.is_ready = true;
                        }
                        has_served = true;
                    }
                    Ok((FromWorker::ChallengesSet { id }, _)) => issuer.challenges_set(id).await,
                    Ok((FromWorker::Applied { .. }, _)) => {}
                    // The worker has closed its end of the channel.
                    Err(_) => if let Some(mut dead) = worker.take() {
                        let exit = self.reap(&mut dead).await;
                        if !has_served && exit.is_regular {
                            let status = exit.status;
                            return Err(io::Error::other(format!("the worker process could not start ({status})")));
                        }
                        self.pending_reloads.ids.clear();
                        next_start = Instant::now();
                        if !dead.is_ready && dead.started.elapsed() < MIN_UPTIME {
                            next_start += backoff;
                            backoff = (backoff * 2).min(MAX_BACKOFF);
                        } else {
                            backoff = FIRST_BACKOFF;
                        }
                        self.events.event(BalancerEvent::WorkerDied { how: &exit.status });
                    },
                },
                // Certificates are obtained once requests are answered.
                message = issuer.receive(&self.programs, &self.events), if has_served => {
                    if let Some(worker) = &mut worker {
                        let message = match message {
                            FromCertificates::Challenges { id, challenges } => ToWorker::Challenges { id, challenges },
                            FromCertificates::CertificateChanged => ToWorker::CertificateChanged,
                        };
                        // A new worker reads the certificates and gets the challenges anyway.
                        let _ = worker.channel.send(&message, &[]).await;
                    }
                }
                () = tokio::time::sleep_until(next_start), if worker.is_none() => match self.start(&issuer).await {
                    Ok(started) => worker = Some(started),
                    Err(error) => {
                        let reason = format!("a worker process cannot be started: {error}");
                        self.events.event(ProcessEvent::Failed { reason: &reason });
                        next_start = Instant::now() + backoff;
                        backoff = (backoff * 2).min(MAX_BACKOFF);
                    }
                },
            }
            if let Some(worker) = worker.as_mut().filter(|worker| worker.is_ready) {
                self.reload_pending(worker, &mut issuer).await;
            }
        };
        self.events.event(ProcessEvent::Stopping { reason });
        let events = self.events.clone();
        tokio::join!(issuer.stop(), self.stop(worker));
        events.event(ProcessEvent::Stopped);
        Ok(())
    }

    /// Starts a worker process and gives it the sockets and the configuration.
    async fn start(&self, issuer: &Issuer) -> io::Result<Worker> {
        let (mut channel, other) = Channel::pair()?;
        let child = self.programs.spawn(Role::Worker, other)?;
        // If the worker dies meanwhile, the next receive reports it.
        let _ = self.configure(&mut channel, &self.listening, &self.config).await;
        if let Some((id, challenges)) = issuer.challenges.clone() {
            let _ = channel.send(&ToWorker::Challenges { id, challenges }, &[]).await;
        }
        Ok(Worker { child, channel, started: Instant::now(), is_ready: false })
    }

    async fn configure(
        &self,
        channel: &mut Channel,
        sockets: &[Listening],
        config: &Config,
    ) -> io::Result<()> {
        for listening in sockets {
            for part in listening.sockets.chunks(channel::MAX_SOCKETS) {
                channel.send(&ToWorker::Listen { address: listening.address }, part).await?;
            }
        }
        let toml = toml::to_string(config).map_err(io::Error::other)?;
        channel.send(&ToWorker::Configure { toml }, &[]).await
    }

    /// Reloads the configuration file once for all requests that are pending. Requests that arrive during a reload
    /// may be about a newer version of the file, so they cause another one.
    async fn reload_pending(&mut self, worker: &mut Worker, issuer: &mut Issuer) {
        while self.pending_reloads.by_signal || !self.pending_reloads.ids.is_empty() {
            let ids = std::mem::take(&mut self.pending_reloads).ids;
            let source = self.file.display().to_string();
            let outcome = self.try_reload(worker, issuer).await;
            match &outcome {
                Ok(()) => self.events.event(ProcessEvent::ConfigurationLoaded { source: &source }),
                Err(reason) => {
                    self.events.event(ProcessEvent::ConfigurationRefused { source: &source, reason });
                }
            }
            // If the worker has died, the next receive reports it.
            if worker.channel.send(&ToWorker::Reloaded { ids, outcome }, &[]).await.is_err() {
                return;
            }
        }
    }

    async fn try_reload(&mut self, worker: &mut Worker, issuer: &mut Issuer) -> Result<(), String> {
        let config = config::load(&self.file).map_err(|mistakes| mistakes.lines())?;
        for (same, name) in [
            (config.workers == self.config.workers, "workers"),
            (config.access_log == self.config.access_log, "access-log"),
        ] {
            if !same {
                return Err(format!("{name} cannot change while the balancer runs\nhint: restart it"));
            }
        }
        let new = bind_missing(&config, &self.listening).map_err(|error| error.to_string())?;
        self.configure(&mut worker.channel, &new, &config).await.map_err(|error| error.to_string())?;
        loop {
            match worker.channel.receive().await {
                Ok((FromWorker::Applied { problem: None }, _)) => break,
                Ok((FromWorker::Applied { problem: Some(problem) }, _)) => return Err(problem),
                Ok((FromWorker::ReloadRequested { id }, _)) => self.pending_reloads.ids.push(id),
                Ok((FromWorker::ChallengesSet { id }, _)) => issuer.challenges_set(id).await,
                Ok((FromWorker::Ready, _)) => {}
                Err(error) => return Err(format!("the worker process died during the reload: {error}")),
            }
        }
        issuer.configure(&config).await.map_err(|error| error.to_string())?;
        self.listening.extend(new);
        self.listening
            .retain(|listening| config.listen.iter().any(|listen| listen.address == listening.address));
        self.config = config;
        Ok(())
    }

    /// Reaps a worker that has closed its channel, and kills it if it does not exit.
    async fn reap(&self, worker: &mut Worker) -> Exit {
        match tokio::time::timeout(EXIT_TIMEOUT, worker.child.wait()).await {
            Ok(Ok(status)) => Exit { is_regular: status.signal().is_none(), status: status.to_string() },
            Ok(Err(error)) => Exit { is_regular: false, status: error.to_string() },
            Err(_) => {
                let _ = worker.child.kill().await;
                Exit { is_regular: false, status: "killed: it closed its control channel".to_owned() }
            }
        }
    }

    async fn stop(self, worker: Option<Worker>) {
        let Some(mut worker) = worker else { return };
        // Fails if the worker has died already.
        let _ = worker.channel.send(&ToWorker::Stop, &[]).await;
        // The worker then holds the last reference: the sockets close as soon as it has emptied their accept queues.
        drop(self.listening);
        if tokio::time::timeout(*self.config.drain + STOP_GRACE, worker.child.wait()).await.is_err() {
            let _ = worker.child.kill().await;
        }
    }
}

/// How a worker process exited.
struct Exit {
    /// Whether it exited without a signal: a restart would fail in the same way.
    is_regular: bool,
    status: String,
}

/// Receives the worker's next message; pending while there is no worker.
async fn receive(worker: &mut Option<Worker>) -> io::Result<(FromWorker, Vec<std::net::TcpListener>)> {
    match worker {
        Some(worker) => worker.channel.receive().await,
        None => std::future::pending().await,
    }
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
        })
    }
}

fn add_all(listening: &mut Vec<Listening>, address: SocketAddr, sockets: Vec<std::net::TcpListener>) {
    match listening.iter_mut().find(|known| known.address == address) {
        Some(known) => known.sockets.extend(sockets),
        None => listening.push(Listening { address, sockets }),
    }
}

fn bind_missing(config: &Config, listening: &[Listening]) -> io::Result<Vec<Listening>> {
    let workers = crate::listening::worker_count(config);
    let missing = |address: &SocketAddr| !listening.iter().any(|known| known.address == *address);
    let addresses = config.listen.iter().map(|listen| listen.address).filter(missing);
    addresses.map(|address| Listening::bind(address, workers)).collect()
}
