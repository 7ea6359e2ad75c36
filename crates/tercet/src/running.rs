//! The run state of a `tercet up`: its parts, their processes and addresses, in `.tercet/run/up.json`, for the commands that
//! ask it.
//!
//! `tercet up` keeps it current as long as it runs. If it is killed, the file stays; whether it runs is known by its lock.

pub(crate) mod log_files;
pub(crate) mod loopback;
pub(crate) mod servers;

use std::cell::{Ref, RefCell};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tercet_config::Tier;
use tercet_observe::event::SupervisorEvent;

use crate::project::{LOG, Project, STATE};

/// The state's file in the private folder.
const FILE: &str = "run/up.json";
/// The lock of the `tercet up` that runs.
const LOCK: &str = "lock";

/// The run state of a `tercet up`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunState {
    /// The process of `tercet up`.
    pub(crate) pid: u32,
    /// The project's name.
    pub(crate) name: String,
    /// When it was started.
    pub(crate) since: Timestamp,
    /// The URL of the balancer, once everything is up.
    pub(crate) url: Option<String>,
    /// The dashboard, with the key of this run.
    pub(crate) dashboard: Option<String>,
    /// The balancer's metrics endpoint.
    pub(crate) metrics: Option<SocketAddr>,
    /// Its parts, in the order of their first start.
    pub(crate) parts: Vec<Part>,
}

/// The state of one part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Its name: `balancer`, `app-1`, `database`.
    pub(crate) name: String,
    /// Whether it is ready.
    pub(crate) state: PartState,
    /// Its process, while it has one.
    pub(crate) pid: Option<u32>,
    /// The addresses it listens on.
    pub(crate) address: Option<String>,
    /// Its admin endpoint, if it has one.
    pub(crate) admin: Option<SocketAddr>,
    /// When the process was started.
    pub(crate) since: Timestamp,
    /// How often it was restarted because it had exited.
    pub(crate) restarts: u32,
    /// Why it last exited.
    pub(crate) reason: Option<String>,
    /// Its log file.
    pub(crate) log: PathBuf,
}

/// Whether a part is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PartState {
    /// Its process was started and is not ready yet.
    Starting,
    /// It is ready.
    Ready,
    /// It has exited by itself and is restarted.
    Exited,
    /// It is being stopped, or was.
    Stopped,
}

impl PartState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Exited => "exited",
            Self::Stopped => "stopped",
        }
    }
}

/// The tier of the part with this name; `tercet up` itself has none.
pub(crate) fn tier(part: &str) -> Option<Tier> {
    match part {
        "up" => None,
        "balancer" => Some(Tier::Balancer),
        "database" => Some(Tier::Database),
        _ => Some(Tier::Application),
    }
}

/// The run state in a running `tercet up`. Dropped, its file is removed.
pub(crate) struct Board {
    state: RefCell<RunState>,
    folder: PathBuf,
}

impl Board {
    /// The state of this process, which runs the project with this private folder.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn open(name: &str, folder: &Path) -> anyhow::Result<Self> {
        let state = RunState {
            pid: std::process::id(),
            name: name.to_owned(),
            since: Timestamp::now(),
            url: None,
            dashboard: None,
            metrics: None,
            parts: Vec::new(),
        };
        let board = Self { state: RefCell::new(state), folder: folder.to_owned() };
        board.write().with_context(|| board.folder.join(FILE).display().to_string())?;
        Ok(board)
    }

    /// The current state.
    pub(crate) fn state(&self) -> Ref<'_, RunState> {
        self.state.borrow()
    }

    /// Changes the state, and writes it.
    pub(crate) fn update(&self, change: impl FnOnce(&mut RunState)) {
        change(&mut self.state.borrow_mut());
        // A full disk must not end what runs.
        let _ = self.write();
    }

    /// Records an event of the supervisor.
    pub(crate) fn observe(&self, event: &SupervisorEvent<'_>) {
        let (SupervisorEvent::PartStarted { name, .. }
        | SupervisorEvent::PartReady { name, .. }
        | SupervisorEvent::PartExited { name, .. }
        | SupervisorEvent::PartStopping { name }
        | SupervisorEvent::PartStopped { name, .. }) = event
        else {
            return;
        };
        let log = self.folder.join(LOG).join(format!("{name}.log"));
        self.update(|state| {
            let index = state.parts.iter().position(|part| part.name == *name).unwrap_or_else(|| {
                state.parts.push(Part {
                    name: (*name).to_owned(),
                    state: PartState::Starting,
                    pid: None,
                    address: None,
                    admin: None,
                    since: Timestamp::now(),
                    restarts: 0,
                    reason: None,
                    log,
                });
                state.parts.len() - 1
            });
            state.parts[index].observe(event);
        });
    }

    fn write(&self) -> io::Result<()> {
        let path = self.folder.join(FILE);
        let text = serde_json::to_string_pretty(&*self.state.borrow())?;
        let new = path.with_added_extension("new");
        // Not followed if it is a link; and a reader never sees half of it.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, &path)
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        // If it cannot be removed, the lock still says that nothing runs.
        let _ = fs::remove_file(self.folder.join(FILE));
    }
}

impl Part {
    fn observe(&mut self, event: &SupervisorEvent<'_>) {
        match event {
            SupervisorEvent::PartStarted { pid, .. } => {
                self.restarts += u32::from(self.state == PartState::Exited);
                (self.state, self.pid, self.since) = (PartState::Starting, Some(*pid), Timestamp::now());
            }
            SupervisorEvent::PartReady { address, .. } => {
                (self.state, self.address) = (PartState::Ready, Some((*address).to_owned()));
            }
            SupervisorEvent::PartExited { reason, .. } => {
                (self.state, self.pid, self.reason) = (PartState::Exited, None, Some((*reason).to_owned()));
            }
            SupervisorEvent::PartStopping { .. } => self.state = PartState::Stopped,
            SupervisorEvent::PartStopped { .. } => (self.state, self.pid) = (PartState::Stopped, None),
            _ => {}
        }
    }
}

/// The run state of the `tercet up` that runs a project.
///
/// # Errors
/// None runs, or its state cannot be read.
pub(crate) fn find(project: &Project) -> anyhow::Result<RunState> {
    let folder = project.folder.join(STATE);
    let path = folder.join(FILE);
    let holder = holder(&folder.join(LOCK)).with_context(|| folder.join(LOCK).display().to_string())?;
    let text = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let state = text.as_deref().map(serde_json::from_str::<RunState>);
    let name = project.topology.name();
    let start = format!("hint: tercet up {} starts it", project.folder.display());
    match (holder, state) {
        (Some(Holder { pid }), Some(Ok(state))) if pid != state.pid => bail!(
            "{name} is not up: its last tercet up was killed, and another command, process {pid}, works on its database\n{start}"
        ),
        (Some(_), Some(state)) => {
            state.with_context(|| format!("{} is of another version of tercet", path.display()))
        }
        (Some(_), None) => bail!("{name} has just been started, or is stopping\nhint: try again"),
        (None, Some(Ok(state))) => bail!(
            "{name} is not up: its last tercet up, process {} of {:.0}, was killed\n{start}",
            state.pid,
            state.since
        ),
        (None, _) => bail!("{name} is not up\n{start}"),
    }
}

/// The process that has locked a file; it writes its id into it at once.
#[derive(Deserialize)]
struct Holder {
    pid: u32,
}

/// The process that has locked the file; `None` if none has.
fn holder(path: &Path) -> io::Result<Option<Holder>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(serde_json::from_reader(file)?)),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tercet_config::Origin;

    use super::*;
    use crate::commands::up::private::PrivateFolder;

    fn project(folder: &Path) -> Project {
        let topology = tercet_config::parse("", Origin { file: "tercet.toml", folder: "shop" }).unwrap();
        Project { folder: folder.to_owned(), topology }
    }

    #[test]
    fn a_part_is_followed_from_its_start_to_its_restart() {
        let folder = tempfile::tempdir().unwrap();
        let project = project(folder.path());
        let private = PrivateFolder::lock(folder.path()).unwrap();
        let board = Board::open("shop", private.folder()).unwrap();
        let mode = fs::metadata(private.folder().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let name = "app-1";
        let part = || find(&project).unwrap().parts.pop().unwrap();
        board.observe(&SupervisorEvent::PartStarted { name, pid: 7 });
        assert_eq!((part().state, part().pid, part().restarts), (PartState::Starting, Some(7), 0));
        board.observe(&SupervisorEvent::PartReady { name, address: "127.0.0.1:1", seconds: 1.0 });
        assert_eq!((part().state, part().address.as_deref()), (PartState::Ready, Some("127.0.0.1:1")));
        let reason = "killed by signal 9";
        board.observe(&SupervisorEvent::PartExited { name, reason, restart_seconds: 1.0 });
        assert_eq!(
            (part().state, part().pid, part().reason.as_deref()),
            (PartState::Exited, None, Some(reason))
        );
        board.observe(&SupervisorEvent::PartStarted { name, pid: 8 });
        assert_eq!((part().pid, part().restarts), (Some(8), 1));
    }

    #[test]
    fn a_state_without_a_lock_is_that_of_a_killed_process() {
        let folder = tempfile::tempdir().unwrap();
        let project = project(folder.path());
        assert!(find(&project).unwrap_err().to_string().starts_with("shop is not up\nhint: tercet up "));
        let private = PrivateFolder::lock(folder.path()).unwrap();
        assert!(find(&project).unwrap_err().to_string().contains("has just been started"));
        let board = Board::open("shop", private.folder()).unwrap();
        assert_eq!(find(&project).unwrap().pid, std::process::id());
        // It was killed, and a command that works on the database has the lock.
        let state = RunState { pid: 1, ..board.state().clone() };
        fs::write(private.folder().join(FILE), serde_json::to_string(&state).unwrap()).unwrap();
        let busy = find(&project).unwrap_err().to_string();
        assert!(busy.contains(&format!("process {}, works on its database", std::process::id())), "{busy}");
        board.update(|_| {});
        drop(private);
        let killed = find(&project).unwrap_err().to_string();
        assert!(killed.contains(&format!("process {} of 20", std::process::id())), "{killed}");
        assert!(killed.contains("was killed"), "{killed}");
        drop(board);
        assert!(find(&project).unwrap_err().to_string().starts_with("shop is not up\n"));
    }
}
