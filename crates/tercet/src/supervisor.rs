//! Keeps parts running: starts each, waits until it can work, starts it again when it ends, stops them in order.
//!
//! It knows processes, signals and patience; what a part is made of is its [`Part`]'s business.

mod backoff;
mod probe;
mod process;

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tercet_observe::event::SupervisorEvent;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use self::backoff::Backoff;
pub(crate) use self::probe::{Obstacle, accepts, answers};
use self::process::Process;
pub(crate) use self::process::this_executable;
use crate::output::{Output, Voice};

/// Something that is to be running.
pub(crate) trait Part: 'static {
    /// What logs call it.
    fn name(&self) -> &str;

    /// Where it listens, for people.
    fn address(&self) -> String;

    /// Makes everything ready for a start and says what to run; asked before each start.
    async fn launch(&mut self) -> anyhow::Result<Launch>;

    /// Returns as soon as the started process can do its work.
    async fn ready(&self, pid: u32);

    /// What stood in the way of that lately, if it is known.
    fn obstacle(&self) -> Option<String> {
        None
    }

    /// How long its first start may take.
    fn patience(&self) -> Duration;

    /// How it is stopped: each signal, and how long to wait before the next. Forced, the first is left out.
    fn stop(&self) -> Vec<(Signal, Duration)>;
}

/// What to run. Its environment may hold secrets, so it cannot be printed.
#[derive(Clone)]
pub(crate) struct Launch {
    /// The program and its arguments.
    pub(crate) program: Vec<OsString>,
    /// Variables it gets.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Whether it gets this process's environment as well.
    pub(crate) inherits: bool,
    /// Its working directory.
    pub(crate) folder: PathBuf,
    /// The user and group it runs as, when that is not this process's.
    pub(crate) account: Option<(u32, u32)>,
    /// Whether it keeps the right to listen on ports below 1024, if this process has it.
    pub(crate) low_ports: bool,
    /// What becomes of it when this process dies.
    pub(crate) orphan: Orphan,
    /// Whether its lines are JSON objects when this process's are to be.
    pub(crate) speaks_json: bool,
}

/// What becomes of a process whose parent dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Orphan {
    /// It is killed.
    Killed,
    /// It gets SIGQUIT, and ends what it started itself.
    Quits,
    /// It is killed with everything it started.
    KilledWithDescendants,
}

/// What a part is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Run,
    Stop,
    Force,
}

/// What became of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Ready,
    Failed(String),
    Stopped,
}

/// The parts that were started, in order.
pub(crate) struct Supervisor {
    output: Output,
    running: RefCell<Vec<Running>>,
}

struct Running {
    tier: u8,
    orders: watch::Sender<Order>,
    task: JoinHandle<()>,
}

impl Supervisor {
    pub(crate) fn new(output: Output) -> Self {
        Self { output, running: RefCell::default() }
    }

    /// Starts a part and waits until it is ready. From then on it is started again whenever it ends, until
    /// [`stop`](Self::stop): all parts of a tier at once, the highest tier first.
    ///
    /// # Errors
    /// It cannot be started, ends before it is ready, or takes too long.
    pub(crate) async fn start(&self, tier: u8, part: impl Part) -> anyhow::Result<()> {
        let (orders, orders_to_part) = watch::channel(Order::Run);
        let (state, mut state_of_part) = watch::channel(State::Starting);
        let name = part.name().to_owned();
        let voice = self.output.voice(&name)?;
        let own = self.output.own_voice();
        let task = tokio::task::spawn_local(
            Supervised { part, orders: orders_to_part, state, voice, own, backoff: Backoff::default() }.run(),
        );
        self.running.borrow_mut().push(Running { tier, orders, task });
        let state = state_of_part.wait_for(|state| *state != State::Starting).await?.clone();
        match state {
            State::Failed(reason) => Err(anyhow::anyhow!("{name} did not start: {reason}")),
            _ => Ok(()),
        }
    }

    /// Stops every part; when `force` resolves, what is still running is ended at once. Whether it was not
    /// needed.
    pub(crate) async fn stop(&self, force: impl Future<Output = ()>) -> bool {
        let mut running = std::mem::take(&mut *self.running.borrow_mut());
        let everybody: Vec<_> = running.iter().map(|part| part.orders.clone()).collect();
        let in_order = async {
            while let Some(tier) = running.iter().map(|part| part.tier).max() {
                let (now, later): (Vec<_>, Vec<_>) = running.into_iter().partition(|part| part.tier == tier);
                running = later;
                for part in &now {
                    part.orders.send_if_modified(|order| {
                        *order < Order::Stop && {
                            *order = Order::Stop;
                            true
                        }
                    });
                }
                for part in now {
                    // A task that panicked has said so, and its process was killed with it.
                    let _ = part.task.await;
                }
            }
        };
        let mut in_order = std::pin::pin!(in_order);
        tokio::select! {
            () = &mut in_order => return true,
            () = force => {}
        }
        for orders in everybody {
            orders.send_replace(Order::Force);
        }
        in_order.await;
        false
    }
}

/// One part and its present state.
struct Supervised<P> {
    part: P,
    orders: watch::Receiver<Order>,
    state: watch::Sender<State>,
    voice: Voice,
    own: Voice,
    backoff: Backoff,
}

/// Why a process is no longer there.
enum Ended {
    /// It was stopped.
    Stopped,
    /// It could not be started, or ended by itself.
    Exited(String),
}

impl<P: Part> Supervised<P> {
    async fn run(mut self) {
        loop {
            let started = Instant::now();
            let reason = match self.run_once().await {
                Ok(Ended::Stopped) => break,
                Ok(Ended::Exited(reason)) => reason,
                Err(error) => format!("{error:#}"),
            };
            if *self.state.borrow() != State::Ready {
                let said = self.voice.last_words().map(|words| format!("; the last it said: {words}"));
                self.state.send_replace(State::Failed(reason + &said.unwrap_or_default()));
                return;
            }
            let wait = self.backoff.after(started.elapsed());
            self.own.event(SupervisorEvent::PartExited {
                name: self.part.name(),
                reason: &reason,
                restart_seconds: wait.as_secs_f64(),
            });
            tokio::select! {
                () = sleep(wait) => {}
                () = told(&mut self.orders, Order::Stop) => break,
            }
        }
        self.state.send_replace(State::Stopped);
    }

    /// One life of the part's process.
    async fn run_once(&mut self) -> anyhow::Result<Ended> {
        let launch = tokio::select! {
            launch = self.part.launch() => launch?,
            () = told(&mut self.orders, Order::Stop) => return Ok(Ended::Stopped),
        };
        let started = Instant::now();
        let mut process = Process::spawn(&launch, self.voice.clone())?;
        let pid = process.pid();
        self.own.event(SupervisorEvent::PartStarted { name: self.part.name(), pid });
        let first = *self.state.borrow() != State::Ready;
        let patience = if first { self.part.patience() } else { Duration::MAX };
        let ready = tokio::select! {
            // An end comes before readiness: whoever answers then is somebody else.
            biased;
            reason = process.ended() => return Ok(Ended::Exited(reason)),
            () = told(&mut self.orders, Order::Stop) => None,
            ready = timeout(patience, self.part.ready(pid)) => Some(ready.is_ok()),
        };
        match ready {
            None => return self.stop(process).await,
            Some(false) => {
                self.stop(process).await?;
                let obstacle = self.part.obstacle().map(|obstacle| format!(": {obstacle}"));
                return Ok(Ended::Exited(format!(
                    "it was not ready within {} s{}",
                    patience.as_secs(),
                    obstacle.unwrap_or_default()
                )));
            }
            Some(true) => {}
        }
        self.own.event(SupervisorEvent::PartReady {
            name: self.part.name(),
            address: &self.part.address(),
            seconds: started.elapsed().as_secs_f64(),
        });
        self.state.send_replace(State::Ready);
        tokio::select! {
            reason = process.ended() => return Ok(Ended::Exited(reason)),
            () = told(&mut self.orders, Order::Stop) => {}
        }
        self.stop(process).await
    }

    /// Signal after signal until it is gone.
    async fn stop(&mut self, mut process: Process) -> anyhow::Result<Ended> {
        self.own.event(SupervisorEvent::PartStopping { name: self.part.name() });
        for (index, (signal, patience)) in self.part.stop().into_iter().enumerate() {
            if index == 0 && *self.orders.borrow() == Order::Force {
                continue;
            }
            process.signal(signal);
            tokio::select! {
                reason = process.ended() => {
                    self.own.event(SupervisorEvent::PartStopped { name: self.part.name(), reason: &reason });
                    return Ok(Ended::Stopped);
                }
                () = sleep(patience) => {}
                // Only the first signal leaves time; the others are as fast as it gets.
                () = told(&mut self.orders, Order::Force), if index == 0 => {}
            }
        }
        anyhow::bail!("process {} does not end", process.pid())
    }
}

/// Waits until the part is told this or more. Nobody left to tell it anything is as good.
async fn told(orders: &mut watch::Receiver<Order>, order: Order) {
    let _ = orders.wait_for(|told| *told >= order).await;
}
