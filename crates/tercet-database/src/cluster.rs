//! A private PostgreSQL cluster in a folder of its own: made once, configured at every start.
//!
//! It says what to run; the supervisor runs it. It holds the cluster's lock as long as it
//! lives, so that a server that it finds running there is an orphan.

pub mod configuration;
mod place;
mod postmaster;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tercet_postgres::{Host, Target};

use self::configuration::Configuration;
pub use self::place::Place;
#[cfg(target_os = "linux")]
pub use self::place::hand_over;
use crate::account::Account;
use crate::installation::{Installation, Search};
use crate::program::Program;

/// The superuser, who may only come through the private socket.
pub const SUPERUSER: &str = "postgres";

/// How PostgreSQL is stopped: each signal and how long to wait before the next. SIGINT is a "fast" shutdown,
/// SIGQUIT an "immediate" one, from which it recovers at its next start; see
/// <https://www.postgresql.org/docs/current/server-shutdown.html>.
pub const STOP: [(Signal, Duration); 3] = [
    (Signal::INT, Duration::from_secs(20)),
    (Signal::QUIT, Duration::from_secs(6)),
    (Signal::KILL, Duration::from_secs(1)),
];

/// How often the state of a starting or stopping server is looked at.
const TICK: Duration = Duration::from_millis(10);
/// How long an orphaned server has to stop before it is killed.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(6);

/// A cluster could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file or folder of the cluster.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has the cluster.
    #[error("the database in {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// No installation fits the data.
    #[error(
        "the data in {} belongs to PostgreSQL {major}, which is not on this machine; \
         hint: install postgresql-{major}, or move the data with pg_dump", data.display()
    )]
    NoSuchMajor {
        /// The data directory.
        data: PathBuf,
        /// The major version it was made by.
        major: u32,
    },
    /// `initdb` failed.
    #[error("initdb could not make a cluster in {}: {output}", place.display())]
    Initdb {
        /// Where.
        place: PathBuf,
        /// The end of what it printed.
        output: String,
    },
    /// Processes that belong to the data directory do not end.
    #[error("the processes {pids:?} still use {} and do not stop; hint: look at them, then kill them", data.display())]
    Orphans {
        /// The data directory.
        data: PathBuf,
        /// Their process ids.
        pids: Vec<i32>,
    },
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    |source| ClusterError::File { path: path.to_owned(), source }
}

/// A cluster, and the right to run it.
#[derive(Debug)]
pub struct Cluster {
    place: Place,
    account: Account,
    sockets: Sockets,
    port: u16,
    /// Held, never read.
    _lock: File,
}

/// The folder of the Unix socket.
#[derive(Debug)]
enum Sockets {
    /// Beside the data.
    Beside(PathBuf),
    /// Where paths are shorter; a socket's path has room for about 100 bytes.
    Short(tempfile::TempDir),
}

impl Sockets {
    fn path(&self) -> &Path {
        match self {
            Self::Beside(path) => path,
            Self::Short(folder) => folder.path(),
        }
    }
}

impl Cluster {
    /// Takes possession of the cluster in `place`, which need not exist yet, to run as `account` and to listen on
    /// `port` of the loopback.
    ///
    /// # Errors
    /// Another process has it, or its folders cannot be made.
    pub fn open(place: Place, account: Account, port: u16) -> Result<Self, ClusterError> {
        place.create(&account)?;
        let path = place.lock();
        let lock = File::options().create(true).append(true).open(&path).map_err(file_error(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(ClusterError::InUse(place.folder().to_owned())),
            Err(fs::TryLockError::Error(source)) => return Err(ClusterError::File { path, source }),
        }
        let sockets = place.sockets(&account)?;
        Ok(Self { place, account, sockets, port, _lock: lock })
    }

    /// The major version its data was made by; `None` when there is no data yet.
    pub fn major(&self) -> Option<u32> {
        fs::read_to_string(self.place.data().join("PG_VERSION")).ok()?.trim().parse().ok()
    }

    /// The installation its data asks for, or the first one when there is no data yet.
    ///
    /// # Errors
    /// There is data, and no installation of its major version. `Ok(None)`: nothing is installed at all.
    pub fn installation(&self, search: &Search) -> Result<Option<Installation>, ClusterError> {
        let found = search.find(self.major());
        match self.major() {
            Some(major) if found.is_none() && search.find(None).is_some() => {
                Err(ClusterError::NoSuchMajor { data: self.place.data(), major })
            }
            _ => Ok(found),
        }
    }

    /// Makes the data directory when it is missing. One that was interrupted is begun again.
    ///
    /// # Errors
    /// `initdb` fails, or files cannot be written.
    pub async fn initialise(&self, installation: &Installation) -> Result<(), ClusterError> {
        let data = self.place.data();
        if data.join("PG_VERSION").exists() {
            return Ok(());
        }
        let partial = self.place.partial_data();
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(file_error(&partial))?;
        }
        place::create_owned(&partial, &self.account)?;
        let mut arguments: Vec<std::ffi::OsString> = [
            "--username",
            SUPERUSER,
            "--auth-local=peer",
            "--auth-host=reject",
            "--encoding=UTF8",
            "--data-checksums",
            "--no-instructions",
        ]
        .map(Into::into)
        .into();
        arguments.extend(locale(installation).iter().map(Into::into));
        arguments.extend(["--pgdata".into(), partial.clone().into_os_string()]);
        let initdb = Program {
            path: installation.programs.join("initdb"),
            arguments,
            environment: installation.environment(),
            folder: partial.clone(),
            account: self.account.clone(),
        };
        let output = tokio::process::Command::from(initdb.command())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(file_error(&initdb.path))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let output = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>();
            return Err(ClusterError::Initdb {
                place: self.place.folder().to_owned(),
                output: output[output.len().saturating_sub(4)..].join("; "),
            });
        }
        fs::rename(&partial, &data).map_err(file_error(&data))
    }

    /// Writes the configuration for a server of `database`, and says what to run.
    ///
    /// # Errors
    /// The configuration cannot be written.
    pub fn program(&self, installation: &Installation, database: &str) -> Result<Program, ClusterError> {
        let user =
            Account::current().map_err(|error| file_error(self.place.folder())(io::Error::other(error)))?;
        let folder = self.place.configuration();
        let data = self.place.data();
        let configuration = Configuration {
            folder: &folder,
            data: &data,
            sockets: self.sockets.path(),
            port: self.port,
            database,
            superuser_is: &user.name,
        };
        for (name, text) in configuration.files() {
            let path = folder.join(name);
            place::write_readable_by(&path, &text, &self.account)?;
        }
        Ok(Program {
            path: installation.programs.join("postgres"),
            // PostgreSQL finds everything else by what this file says.
            arguments: vec!["-D".into(), folder.into_os_string()],
            environment: installation.environment(),
            folder: self.place.data(),
            account: self.account.clone(),
        })
    }

    /// Makes the cluster startable after a crash or a power cut: ends orphaned server processes,
    /// then removes what they left. Call it before every start.
    ///
    /// # Errors
    /// Processes of the cluster do not end.
    pub async fn recover(&self) -> Result<(), ClusterError> {
        let data = self.place.data();
        let deadline = tokio::time::Instant::now() + ORPHAN_PATIENCE;
        for signal in [Signal::QUIT, Signal::KILL] {
            postmaster::signal(&data, signal);
            while !postmaster::processes(&data).is_empty() {
                if tokio::time::Instant::now() > deadline {
                    break;
                }
                tokio::time::sleep(TICK).await;
            }
        }
        let pids = postmaster::processes(&data);
        if !pids.is_empty() {
            return Err(ClusterError::Orphans { data, pids });
        }
        postmaster::forget(&data, self.sockets.path())
    }

    /// Whether the server with this process id accepts connections.
    pub fn is_ready(&self, pid: u32) -> bool {
        postmaster::Status::read(&self.place.data())
            .is_some_and(|status| status.pid == pid && status.accepts_connections)
    }

    /// Waits until the server with this process id accepts connections; forever, when it never does.
    pub async fn ready(&self, pid: u32) {
        while !self.is_ready(pid) {
            tokio::time::sleep(TICK).await;
        }
    }

    /// How to connect as the superuser: through the private socket.
    pub fn superuser(&self, database: &str) -> Target {
        Target::new(Host::socket(self.sockets.path(), self.port), database, SUPERUSER)
    }

    /// The folder of the private socket, for `psql -h`.
    pub fn socket_folder(&self) -> &Path {
        self.sockets.path()
    }

    /// The port of the loopback it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A locale that is the same on every machine and knows Unicode: characters have their classes and
/// cases, and sort by code point, so that no upgrade of a C library ever corrupts an index.
fn locale(installation: &Installation) -> &'static [&'static str] {
    if installation.version.major >= 17 {
        &["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    } else if cfg!(target_os = "linux") {
        &["--locale=C.UTF-8"]
    } else {
        &["--lc-collate=C", "--lc-ctype=UTF-8"]
    }
}
