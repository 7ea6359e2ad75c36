//! Supervises parts: starts each, waits until it is ready, restarts it when it exits, stops them in order.
//!
//! It knows processes, signals and timeouts only; everything specific to a part is in its [`Part`].

mod backoff;
mod cause;
mod probe;
mod process;

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tercet_observe::event::SupervisorEvent;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use self::backoff::Backoff;
pub(crate) use self::cause::cause;
pub(crate) use self::probe::{LastFailure, accepts, answers};
use self::process::Process;
pub(crate) use self::process::{ends_with_this_process, this_executable};
use crate::output::{Output, PartLog};

/// A process to supervise.
pub(crate) trait Part: 'static {
    /// Its name in the log.
    fn name(&self) -> &str;

    /// The addresses it listens on, for display.
    fn address(&self) -> String;

    /// Prepares a start and returns the program to run; called before each start.
    async fn launch(&mut self) -> anyhow::Result<Launch>;

    /// Returns once the started process is ready.
    async fn ready(&self, pid: u32);

    /// Why the last readiness check failed, if that is known.
    fn last_failure(&self) -> Option<String> {
        None
    }

    /// Why it ended, from the last lines of its output.
    fn last_words(&self, lines: &[String]) -> Option<String> {
        last_line(lines)
    }

    /// What to do about how it ended, or about the last lines of its output.
    fn hint(&self, _ended: &str, _lines: &[String]) -> Option<&'static str> {
        None
    }

    /// The longest its first start may take.
    fn start_timeout(&self) -> Duration;

    /// The signals that stop it, and how long to wait after each. A forced stop skips the first.
    fn stop(&self) -> Vec<(Signal, Duration)>;
}

/// A program to run. It is not `Debug`, since its environment may have secrets.
#[derive(Clone)]
pub(crate) struct Launch {
    /// The program and its arguments.
    pub(crate) program: Vec<OsString>,
    /// Its environment variables.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Whether it also inherits this process's environment.
    pub(crate) inherits: bool,
    /// Its working directory.
    pub(crate) folder: PathBuf,
    /// The user and group it runs as, when that is not this process's.
    pub(crate) account: Option<(u32, u32)>,
    /// Whether it keeps the capability to bind ports below 1024, if this process has it.
    pub(crate) low_ports: bool,
    /// What happens to it when this process dies.
    pub(crate) on_parent_death: OnParentDeath,
    /// Whether it logs JSON if this process does.
    pub(crate) logs_json: bool,
}

/// What happens to a child process when its parent dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnParentDeath {
    /// It gets SIGKILL.
    Kill,
    /// It gets SIGQUIT, and terminates its own child processes.
    Quit,
    /// It is killed with all its descendants.
    KillDescendants,
}

/// An order from the supervisor to a part's task; later ones override earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Run,
    Stop,
    Force,
}

/// The state of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Ready,
    Failed(String),
    Stopped,
}

/// A start that takes longer is explained.
const LONG: Duration = Duration::from_secs(8);

/// How a program ends that has not failed.
pub(crate) const SUCCESS: &str = "exit status 0";

/// The last of the lines.
pub(crate) fn last_line(lines: &[String]) -> Option<String> {
    lines.last().map(|line| message(line.trim()))
}

/// The message of a line of JSON, or the line.
fn message(line: &str) -> String {
    let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    let text = |name: &str| event[name].as_str();
    let mistakes: Vec<&str> =
        event["mistakes"].as_array().into_iter().flatten().filter_map(|it| it["message"].as_str()).collect();
    match (text("message"), text("hint")) {
        (Some(message), None) if !mistakes.is_empty() => format!("{message}: {}", mistakes.join("; ")),
        (Some(message), Some(hint)) => format!("{message}; hint: {hint}"),
        (Some(message), None) => message.to_owned(),
        _ => line.chars().filter(|character| !character.is_control()).collect(),
    }
}

/// How a program ended, why, and what to do about it.
fn explained(ended: &str, words: Option<String>, hint: Option<&str>) -> String {
    let words = words.map(|words| format!("; its last output: {words}"));
    let hint = hint.map(|hint| format!("\nhint: {hint}"));
    format!("{ended}{}{}", words.unwrap_or_default(), hint.unwrap_or_default())
}

/// The parts that were started, in order.
pub(crate) struct Supervisor {
    output: Output,
    running: RefCell<Vec<Running>>,
}

struct Running {
    name: String,
    tier: u8,
    /// Its process, while it has one.
    pid: Rc<Cell<Option<u32>>>,
    orders: watch::Sender<Order>,
    task: JoinHandle<()>,
}

impl Supervisor {
    pub(crate) fn new(output: Output) -> Self {
        Self { output, running: RefCell::default() }
    }

    /// Starts a part and waits until it is ready. From then on it is restarted whenever it exits, until
    /// [`stop`](Self::stop), which stops all parts of a tier at once, the highest tier first.
    ///
    /// # Errors
    /// It cannot be started, exits before it is ready, or exceeds its start timeout.
    pub(crate) async fn start(&self, tier: u8, part: impl Part) -> anyhow::Result<()> {
        let (orders, orders_to_part) = watch::channel(Order::Run);
        let (state, mut state_of_part) = watch::channel(State::Starting);
        let name = part.name().to_owned();
        let log = self.output.part_log(&name)?;
        let own = self.output.own_log();
        let pid = Rc::new(Cell::new(None));
        let task = tokio::task::spawn_local(
            Supervised {
                part,
                orders: orders_to_part,
                state,
                log,
                own,
                backoff: Backoff::default(),
                pid: Rc::clone(&pid),
            }
            .run(),
        );
        self.running.borrow_mut().push(Running { name: name.clone(), tier, pid, orders, task });
        let state = state_of_part.wait_for(|state| *state != State::Starting).await?.clone();
        match state {
            State::Failed(reason) => Err(anyhow::anyhow!("{name} did not start: {reason}")),
            _ => Ok(()),
        }
    }

    /// Runs a program to its end, with its lines in the log `name`. `meanwhile` is dropped when it has ended, or takes long. `hint` says what
    /// to do about how it ended, or about its last lines.
    ///
    /// # Errors
    /// It cannot be started, or fails.
    pub(crate) async fn run(
        &self,
        name: &str,
        launch: &Launch,
        meanwhile: impl Sized,
        hint: fn(&str, &[String]) -> Option<&'static str>,
    ) -> anyhow::Result<()> {
        let log = self.output.part_log(name)?;
        let mut process = Process::spawn(launch, log.clone())?;
        let ended = tokio::select! {
            ended = process.ended() => Some(ended),
            () = sleep(LONG) => None,
        };
        drop(meanwhile);
        let ended = if let Some(ended) = ended {
            ended
        } else {
            let lines = log.last_lines();
            let output = explained("", cause(&lines), hint("", &lines)).replace('\n', "; ");
            let seconds = LONG.as_secs();
            self.output.own_log().event(SupervisorEvent::StillRunning { name, output: &output, seconds });
            process.ended().await
        };
        if ended == SUCCESS {
            return Ok(());
        }
        log.show_last_lines(true);
        let lines = log.last_lines();
        anyhow::bail!("{name} failed: {}", explained(&ended, cause(&lines), hint(&ended, &lines)))
    }

    /// Stops the part with the name of this one, and starts this one in its place.
    ///
    /// # Errors
    /// As [`start`](Self::start); the part with this name is stopped then.
    pub(crate) async fn replace(&self, tier: u8, part: impl Part) -> anyhow::Result<()> {
        let is_it = |it: &Running| it.name == part.name();
        let orders: Vec<_> =
            self.running.borrow().iter().filter(|it| is_it(it)).map(|it| it.orders.clone()).collect();
        for orders in &orders {
            orders.send_replace(Order::Stop);
            // It stays among the running ones until it has ended: a stop of all meanwhile waits for it.
            orders.closed().await;
        }
        self.running.borrow_mut().retain(|it| !is_it(it));
        self.start(tier, part).await
    }

    /// Sends a signal to the process of the part with this name, if it runs.
    pub(crate) fn signal(&self, name: &str, signal: Signal) {
        for running in self.running.borrow().iter().filter(|running| running.name == name) {
            if let Some(pid) = running.pid.get().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
                // It may have exited.
                let _ = kill_process(pid, signal);
            }
        }
    }

    /// Stops every part; when `force` resolves, the remaining ones are killed. Returns whether all parts stopped before
    /// that.
    pub(crate) async fn stop(&self, force: impl Future<Output = ()>) -> bool {
        let mut running = std::mem::take(&mut *self.running.borrow_mut());
        let all_orders: Vec<_> = running.iter().map(|part| part.orders.clone()).collect();
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
                    // A panic of the task is logged already, and its process was killed with it.
                    let _ = part.task.await;
                }
            }
        };
        let mut in_order = std::pin::pin!(in_order);
        tokio::select! {
            () = &mut in_order => return true,
            () = force => {}
        }
        for orders in all_orders {
            orders.send_replace(Order::Force);
        }
        in_order.await;
        false
    }
}

/// One part and its current state.
struct Supervised<P> {
    part: P,
    orders: watch::Receiver<Order>,
    state: watch::Sender<State>,
    log: PartLog,
    own: PartLog,
    backoff: Backoff,
    /// The process, while it runs.
    pid: Rc<Cell<Option<u32>>>,
}

/// How a process ended.
enum Ended {
    /// It was stopped.
    Stopped,
    /// It could not be started, or exited by itself.
    Exited(String),
}

impl<P: Part> Supervised<P> {
    async fn run(mut self) {
        loop {
            let started = Instant::now();
            let ended = self.run_once().await;
            self.pid.set(None);
            let reason = match ended {
                Ok(Ended::Stopped) => break,
                Ok(Ended::Exited(reason)) => reason,
                Err(error) => format!("{error:#}"),
            };
            if *self.state.borrow() != State::Ready {
                let lines = self.log.last_lines();
                self.log.show_last_lines(true);
                let hint = self.part.hint(&reason, &lines);
                let reason = explained(&reason, self.part.last_words(&lines), hint);
                self.state.send_replace(State::Failed(reason));
                return;
            }
            // Its last lines have been shown.
            let hint = self.part.hint(&reason, &[]).map(|hint| format!(", but {hint}"));
            let reason = reason + &hint.unwrap_or_default();
            let wait = self.backoff.after(started.elapsed());
            self.own.event(SupervisorEvent::PartExited {
                name: self.part.name(),
                reason: &reason,
                restart_seconds: wait.as_secs_f64(),
            });
            tokio::select! {
                () = sleep(wait) => {}
                () = wait_for_order(&mut self.orders, Order::Stop) => break,
            }
        }
        self.state.send_replace(State::Stopped);
    }

    /// Starts the process, waits until it is ready, then until it exits or is stopped.
    async fn run_once(&mut self) -> anyhow::Result<Ended> {
        let launch = tokio::select! {
            launch = self.part.launch() => launch?,
            () = wait_for_order(&mut self.orders, Order::Stop) => return Ok(Ended::Stopped),
        };
        let started = Instant::now();
        let mut process = Process::spawn(&launch, self.log.clone())?;
        let pid = process.pid();
        self.pid.set(Some(pid));
        self.own.event(SupervisorEvent::PartStarted { name: self.part.name(), pid });
        let first = *self.state.borrow() != State::Ready;
        let start_timeout = if first { self.part.start_timeout() } else { Duration::MAX };
        let ready = tokio::select! {
            // Check for an exit first: a successful readiness check would then be another process's.
            biased;
            reason = process.ended() => return Ok(Ended::Exited(reason)),
            () = wait_for_order(&mut self.orders, Order::Stop) => None,
            ready = timeout(start_timeout, ready(&self.part, pid, &self.own)) => Some(ready.is_ok()),
        };
        match ready {
            None => return self.stop(process).await,
            Some(false) => {
                self.stop(process).await?;
                let last_failure = self.part.last_failure().map(|last_failure| format!(": {last_failure}"));
                return Ok(Ended::Exited(format!(
                    "not ready within {} s{}",
                    start_timeout.as_secs(),
                    last_failure.unwrap_or_default()
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
            () = wait_for_order(&mut self.orders, Order::Stop) => {}
        }
        self.stop(process).await
    }

    /// Sends one signal after the other until the process has exited.
    async fn stop(&mut self, mut process: Process) -> anyhow::Result<Ended> {
        self.own.event(SupervisorEvent::PartStopping { name: self.part.name() });
        for (index, (signal, start_timeout)) in self.part.stop().into_iter().enumerate() {
            if index == 0 && *self.orders.borrow() == Order::Force {
                continue;
            }
            process.signal(signal);
            tokio::select! {
                reason = process.ended() => {
                    self.own.event(SupervisorEvent::PartStopped { name: self.part.name(), reason: &reason });
                    return Ok(Ended::Stopped);
                }
                () = sleep(start_timeout) => {}
                // Only the first signal allows a graceful stop that a forced one can cut short.
                () = wait_for_order(&mut self.orders, Order::Force), if index == 0 => {}
            }
        }
        anyhow::bail!("process {} does not end", process.pid())
    }
}

/// Waits until the part is ready; says once why it takes long.
async fn ready(part: &impl Part, pid: u32, log: &PartLog) {
    let mut ready = std::pin::pin!(part.ready(pid));
    tokio::select! {
        () = &mut ready => return,
        () = sleep(LONG) => {}
    }
    if let Some(reason) = part.last_failure() {
        log.event(SupervisorEvent::PartNotReady {
            name: part.name(),
            reason: &reason,
            seconds: LONG.as_secs(),
        });
    }
    ready.await;
}

/// Waits for this order or a later one; returns also if the supervisor is gone.
async fn wait_for_order(orders: &mut watch::Receiver<Order>, order: Order) {
    let _ = orders.wait_for(|current| *current >= order).await;
}
