//! The process that stays: it holds the listening sockets and sees to it that a worker process serves them.
//!
//! The worker is the same program started anew. When it dies, a new one gets the same sockets, so that
//! connections made meanwhile wait in the kernel and none is refused. The supervisor never touches a request, so
//! there is little in it that could fail.

mod channel;
pub mod worker;

use std::io;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tercet_observe::LogHandle;
use tercet_observe::event::{BalancerEvent, ProcessEvent};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use self::channel::{Channel, FromWorker, ToWorker};
use crate::config::Config;
use crate::listening::Listening;

/// A worker that lived this long was no failed start; the next one is started at once.
const LIVED: Duration = Duration::from_secs(1);
/// How long to wait before another start after a failed one; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest such wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a worker may take beyond its drain time to end.
const GRACE: Duration = Duration::from_secs(5);

/// A supervisor with its sockets.
#[derive(Debug)]
pub struct Supervisor {
    file: PathBuf,
    config: Config,
    listening: Vec<Listening>,
    program: Program,
    events: LogHandle,
    wishes: Wishes,
}

/// Reloads that are asked for and not begun.
#[derive(Debug, Default)]
struct Wishes {
    /// By a signal.
    signalled: bool,
    /// On the admin socket of the worker that lives, by its numbers.
    numbers: Vec<u64>,
}

/// Makes the command that starts a worker process.
struct Program(Box<dyn Fn() -> std::process::Command>);

impl std::fmt::Debug for Program {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Program")
    }
}

/// A worker process and the way to talk to it.
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
    /// Takes over `given` sockets (systemd's, say) and binds the addresses that are missing. `program` makes the
    /// command that starts a worker process, which has to call [`worker::run`].
    ///
    /// # Errors
    /// An address that is taken or may not be used; it is named.
    pub fn new(
        file: &Path,
        config: Config,
        given: Vec<std::net::TcpListener>,
        program: impl Fn() -> std::process::Command + 'static,
        events: LogHandle,
    ) -> io::Result<Self> {
        let mut listening = Vec::new();
        for socket in given {
            let address = socket.local_addr()?;
            if !config.listen.iter().any(|listen| listen.address == address) {
                return Err(io::Error::other(format!(
                    "a socket for {address} was handed over, but the configuration does not listen there\nhint: make \
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
            program: Program(Box::new(program)),
            events,
            wishes: Wishes::default(),
        })
    }

    /// Keeps a worker running until SIGTERM or SIGINT, then lets it finish its requests. SIGHUP reloads the
    /// configuration, SIGUSR1 opens the access log anew. Whatever becomes of a worker, this goes on.
    ///
    /// # Errors
    /// The first worker could not be started, or found that it cannot serve.
    pub async fn run(mut self) -> io::Result<()> {
        let mut signals = Signals::install()?;
        let mut worker = Some(self.start().await?);
        let mut pause = FIRST_PAUSE;
        let mut next_start = Instant::now();
        let mut has_served = false;
        let reason = loop {
            tokio::select! {
                _ = signals.terminate.recv() => break "SIGTERM",
                _ = signals.interrupt.recv() => break "SIGINT",
                // The next worker opens it when it starts, and one that is gone is noticed below.
                _ = signals.reopen.recv() => if let Some(worker) = &mut worker {
                    let _ = worker.channel.tell(&ToWorker::ReopenLogs, &[]).await;
                },
                _ = signals.hang_up.recv() => self.wishes.signalled = true,
                said = hear(&mut worker) => match said {
                    Ok((FromWorker::ReloadWanted { wish }, _)) => self.wishes.numbers.push(wish),
                    Ok((FromWorker::Ready, _)) => {
                        if let Some(worker) = &mut worker {
                            worker.is_ready = true;
                        }
                        has_served = true;
                    }
                    Ok(_) => {}
                    // Its end; how it came is told by its exit.
                    Err(_) => if let Some(mut dead) = worker.take() {
                        let end = self.reap(&mut dead).await;
                        if !has_served && end.is_its_own {
                            let how = end.how;
                            return Err(io::Error::other(format!("the worker process could not start ({how})")));
                        }
                        self.wishes.numbers.clear();
                        next_start = Instant::now();
                        if !dead.is_ready && dead.started.elapsed() < LIVED {
                            next_start += pause;
                            pause = (pause * 2).min(LONGEST_PAUSE);
                        } else {
                            pause = FIRST_PAUSE;
                        }
                        self.events.event(BalancerEvent::WorkerDied { how: &end.how });
                    },
                },
                () = tokio::time::sleep_until(next_start), if worker.is_none() => match self.start().await {
                    Ok(started) => worker = Some(started),
                    Err(error) => {
                        let reason = format!("a worker process cannot be started: {error}");
                        self.events.event(ProcessEvent::Failed { reason: &reason });
                        next_start = Instant::now() + pause;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                },
            }
            if let Some(worker) = worker.as_mut().filter(|worker| worker.is_ready) {
                self.fulfil(worker).await;
            }
        };
        self.events.event(ProcessEvent::Stopping { reason });
        let events = self.events.clone();
        self.stop(worker).await;
        events.event(ProcessEvent::Stopped);
        Ok(())
    }

    /// Starts a worker process and gives it the sockets and the configuration.
    async fn start(&self) -> io::Result<Worker> {
        let (mut channel, other) = Channel::pair()?;
        let mut command = Command::from(self.program.0());
        // A group of its own, so that Ctrl-C in a terminal reaches the supervisor alone.
        command.stdin(other).process_group(0).kill_on_drop(true);
        let child = command.spawn()?;
        // A worker that dies before it has heard everything is noticed like any other that dies.
        let _ = self.brief(&mut channel, &self.listening, &self.config).await;
        Ok(Worker { child, channel, started: Instant::now(), is_ready: false })
    }

    async fn brief(&self, channel: &mut Channel, sockets: &[Listening], config: &Config) -> io::Result<()> {
        for listening in sockets {
            for part in listening.sockets.chunks(channel::MOST_SOCKETS) {
                channel.tell(&ToWorker::Listen { address: listening.address }, part).await?;
            }
        }
        let toml = toml::to_string(config).map_err(io::Error::other)?;
        channel.tell(&ToWorker::Configure { toml }, &[]).await
    }

    /// Puts what the file says now in force, if the worker can, for everybody who has asked for it by now. Who asks
    /// while it is read may mean a newer one.
    async fn fulfil(&mut self, worker: &mut Worker) {
        while self.wishes.signalled || !self.wishes.numbers.is_empty() {
            let wishes = std::mem::take(&mut self.wishes).numbers;
            let source = self.file.display().to_string();
            let outcome = self.try_reload(worker).await;
            match &outcome {
                Ok(()) => self.events.event(ProcessEvent::ConfigurationLoaded { source: &source }),
                Err(reason) => {
                    self.events.event(ProcessEvent::ConfigurationRefused { source: &source, reason });
                }
            }
            // A worker that is gone is noticed by whoever listens to it next.
            if worker.channel.tell(&ToWorker::Reloaded { wishes, outcome }, &[]).await.is_err() {
                return;
            }
        }
    }

    async fn try_reload(&mut self, worker: &mut Worker) -> Result<(), String> {
        let config = Config::load(&self.file).map_err(|problems| problems.to_string())?;
        for (same, name) in [
            (config.workers == self.config.workers, "workers"),
            (config.access_log == self.config.access_log, "access-log"),
        ] {
            if !same {
                return Err(format!("{name} cannot change while the balancer runs\nhint: restart it"));
            }
        }
        let new = bind_missing(&config, &self.listening).map_err(|error| error.to_string())?;
        self.brief(&mut worker.channel, &new, &config).await.map_err(|error| error.to_string())?;
        loop {
            match worker.channel.hear().await {
                Ok((FromWorker::Applied { problem: None }, _)) => break,
                Ok((FromWorker::Applied { problem: Some(problem) }, _)) => return Err(problem),
                Ok((FromWorker::ReloadWanted { wish }, _)) => self.wishes.numbers.push(wish),
                Ok((FromWorker::Ready, _)) => {}
                Err(error) => return Err(format!("the worker died over it: {error}")),
            }
        }
        self.listening.extend(new);
        self.listening
            .retain(|listening| config.listen.iter().any(|listen| listen.address == listening.address));
        self.config = config;
        Ok(())
    }

    /// Waits for the exit of a worker that has closed its channel.
    async fn reap(&self, worker: &mut Worker) -> End {
        match tokio::time::timeout(LIVED, worker.child.wait()).await {
            Ok(Ok(status)) => End { is_its_own: status.signal().is_none(), how: status.to_string() },
            Ok(Err(error)) => End { is_its_own: false, how: error.to_string() },
            Err(_) => {
                // It neither listens nor ends.
                let _ = worker.child.kill().await;
                End { is_its_own: false, how: "it stopped listening to its supervisor".to_owned() }
            }
        }
    }

    async fn stop(self, worker: Option<Worker>) {
        let Some(mut worker) = worker else { return };
        // One that is gone needs no telling.
        let _ = worker.channel.tell(&ToWorker::Stop, &[]).await;
        // With nobody else holding them the sockets close as soon as the worker has taken what waits in them.
        drop(self.listening);
        if tokio::time::timeout(self.config.drain + GRACE, worker.child.wait()).await.is_err() {
            let _ = worker.child.kill().await;
        }
    }
}

/// How a worker process ended.
struct End {
    /// Whether it ended by itself, and would again.
    is_its_own: bool,
    how: String,
}

/// What the worker says next; nothing while there is none.
async fn hear(worker: &mut Option<Worker>) -> io::Result<(FromWorker, Vec<std::net::TcpListener>)> {
    match worker {
        Some(worker) => worker.channel.hear().await,
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
