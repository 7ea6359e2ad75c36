//! A private PostgreSQL cluster in a separate folder: initialised once, configured at every start.
//!
//! The module returns the program to run; the supervisor runs it. A [`Cluster`] holds the lock of the folder, so a
//! server that is already running there is an orphan.

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
pub(crate) use self::place::create_owned;
#[cfg(target_os = "linux")]
pub use self::place::hand_over;
use crate::account::Account;
use crate::installation::{Installation, Search};
use crate::program::Program;

/// The superuser, who may only connect through the private Unix socket.
pub const SUPERUSER: &str = "postgres";

/// The signals that stop PostgreSQL, each with the time before the next. SIGINT is a "fast" shutdown, SIGQUIT an
/// "immediate" one, after which the next start does crash recovery; see
/// <https://www.postgresql.org/docs/current/server-shutdown.html>.
pub const STOP: [(Signal, Duration); 3] = [
    (Signal::INT, Duration::from_secs(20)),
    (Signal::QUIT, Duration::from_secs(6)),
    (Signal::KILL, Duration::from_secs(1)),
];

/// The interval of checks of a starting or stopping server.
const TICK: Duration = Duration::from_millis(10);
/// The time that an orphaned server has to stop before it is killed.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(6);

/// A cluster could not be initialised or used.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file or folder of the cluster cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Another process holds the lock of the cluster.
    #[error("the database in {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// No installation has the major version of the data.
    #[error(
        "the data in {} belongs to PostgreSQL {major}, which is not on this machine; \
         hint: install postgresql-{major}, or move the data with pg_dump", data.display()
    )]
    NoSuchMajor {
        /// The data directory.
        data: PathBuf,
        /// The major version of the data.
        major: u32,
    },
    /// `initdb` failed.
    #[error("initdb could not make a cluster in {}: {output}", place.display())]
    Initdb {
        /// The cluster's folder.
        place: PathBuf,
        /// The last lines of its standard error.
        output: String,
    },
    /// Processes of the data directory do not exit.
    #[error("the processes {pids:?} still use {} and do not stop; hint: look at them, then kill them", data.display())]
    Orphans {
        /// The data directory.
        data: PathBuf,
        /// Their process ids.
        pids: Vec<i32>,
    },
}

pub(crate) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> ClusterError {
    |source| ClusterError::File { path: path.to_owned(), source }
}

/// A cluster and the lock of its folder.
#[derive(Debug)]
pub struct Cluster {
    place: Place,
    account: Account,
    sockets: Sockets,
    port: u16,
    /// The lock, released on drop.
    _lock: File,
}

/// The folder of the Unix socket.
#[derive(Debug)]
enum Sockets {
    /// Beside the data.
    Beside(PathBuf),
    /// In a temporary folder with a shorter path, since the path of a socket is limited to about 100 bytes.
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
    /// Locks the cluster in `place`, which is created if it is missing. PostgreSQL will run as `account` and listen
    /// on `port` of loopback.
    ///
    /// # Errors
    /// Another process holds the lock, or a folder cannot be created.
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

    /// The major version of the data; `None` if there is no data yet.
    pub fn major(&self) -> Option<u32> {
        fs::read_to_string(self.place.data().join("PG_VERSION")).ok()?.trim().parse().ok()
    }

    /// The installation of the data's major version, or the first one if there is no data yet; `None` if PostgreSQL
    /// is not installed.
    ///
    /// # Errors
    /// There are installations, but none of the data's major version.
    pub fn installation(&self, search: &Search) -> Result<Option<Installation>, ClusterError> {
        let found = search.find(self.major());
        match self.major() {
            Some(major) if found.is_none() && search.find(None).is_some() => {
                Err(ClusterError::NoSuchMajor { data: self.place.data(), major })
            }
            _ => Ok(found),
        }
    }

    /// Initialises the data directory if it is missing. An interrupted initialisation starts again.
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
        create_owned(&partial, &self.account)?;
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

    /// Writes the configuration for a server of `database`, and returns the program to run. The server archives its WAL by
    /// `archive_command`; where there is no archive, this is `true`.
    ///
    /// # Errors
    /// The configuration cannot be written.
    pub fn program(
        &self,
        installation: &Installation,
        database: &str,
        archive_command: &str,
    ) -> Result<Program, ClusterError> {
        let user = self.user()?;
        let configuration = Configuration {
            folder: &self.place.configuration(),
            data: &self.place.data(),
            sockets: self.sockets.path(),
            port: self.port,
            database,
            superuser_is: &user,
            archive_command,
        };
        self.configured(installation, configuration.files())
    }

    /// Writes the files of a configuration, and returns the program that reads them.
    pub(crate) fn configured(
        &self,
        installation: &Installation,
        files: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<Program, ClusterError> {
        let folder = self.place.configuration();
        for (name, text) in files {
            place::write_readable_by(&folder.join(name), &text, &self.account)?;
        }
        Ok(Program {
            path: installation.programs.join("postgres"),
            // postgresql.conf in this folder has the paths of all else.
            arguments: vec!["-D".into(), folder.into_os_string()],
            environment: installation.environment(),
            folder: self.place.data(),
            account: self.account.clone(),
        })
    }

    /// The system user that may connect as superuser: the one of this process.
    pub(crate) fn user(&self) -> Result<String, ClusterError> {
        let user = Account::current().map_err(|error| file_error(self.folder())(io::Error::other(error)))?;
        Ok(user.name)
    }

    /// Makes the cluster startable after a crash or a power cut: stops orphaned server processes, then removes their
    /// lock files. Call it before every start.
    ///
    /// # Errors
    /// Processes of the cluster do not exit.
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

    /// Waits until the server with this process id accepts connections, without a timeout.
    pub async fn ready(&self, pid: u32) {
        while !self.is_ready(pid) {
            tokio::time::sleep(TICK).await;
        }
    }

    /// The connection parameters of the superuser, through the private socket.
    pub fn superuser(&self, database: &str) -> Target {
        Target::new(Host::socket(self.sockets.path(), self.port), database, SUPERUSER)
    }

    /// The folder of the private socket, for `psql -h`.
    pub fn socket_folder(&self) -> &Path {
        self.sockets.path()
    }

    /// The folder and the port of the Unix socket of the server that runs on the data directory `data`, by its lock file; `None`
    /// if none accepts connections.
    pub fn socket_of(data: &Path) -> Option<(PathBuf, u16)> {
        let status = postmaster::Status::read(data).filter(|status| status.accepts_connections)?;
        Some((status.sockets, status.port))
    }

    /// The folder of the cluster.
    pub fn folder(&self) -> &Path {
        self.place.folder()
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.place.data()
    }

    /// The account that PostgreSQL runs as.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// The port of loopback that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A locale with Unicode's character classes and case mapping, the same on every machine. It sorts by code point, so
/// that an upgrade of the C library does not corrupt indexes.
fn locale(installation: &Installation) -> &'static [&'static str] {
    if installation.version.major >= 17 {
        &["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    } else if cfg!(target_os = "linux") {
        &["--locale=C.UTF-8"]
    } else {
        &["--lc-collate=C", "--lc-ctype=UTF-8"]
    }
}
