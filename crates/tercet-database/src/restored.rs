//! A restored cluster: a data directory that a backup engine has restored, recovered from a WAL archive, to be looked
//! at, verified, or to replace the live one.
//!
//! It is configured outside the data directory and listens on a private Unix socket only. The module knows neither the
//! engine nor the archive, only the command that returns a WAL file.

mod configuration;
mod error;
mod messages;
mod server;
mod verification;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

pub use self::error::RecoveryError;
pub use self::server::Server;
pub use self::verification::{Check, Expectation, Finding, Outcome, Verification};
use crate::account::Account;
use crate::cluster::{self, Cluster, ClusterError, Place, file_error};
use crate::control_data::ControlData;
use crate::installation::Installation;
use crate::recovery::RecoveryTarget;
use crate::wal::Segment;

/// The port, which is only a part of the socket's name.
const PORT: u16 = 5432;

/// The recovery of a restored data directory from a WAL archive.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// The shell command that copies the WAL file `%f` of the archive to `%p`
    /// (<https://www.postgresql.org/docs/current/runtime-config-wal.html#GUC-RESTORE-COMMAND>).
    pub restore_command: String,
    /// Where recovery ends and the server accepts writes.
    pub target: RecoveryTarget,
    /// The timeline to follow; `None` for the latest in the archive.
    pub timeline: Option<u32>,
    /// The segments in the archive, to find gaps; empty if they are unknown.
    pub segments: Vec<Segment>,
}

/// A folder with a restored data directory, locked, and the way to run a server on it.
#[derive(Debug)]
pub struct RestoredCluster {
    cluster: Cluster,
    installation: Installation,
    /// The words before the program of the server, such as a wrapper that stops it when this process dies.
    launcher: Vec<std::ffi::OsString>,
}

impl RestoredCluster {
    /// Locks `folder`, which is created if it is missing, and stops a server that an earlier process left there. PostgreSQL
    /// will run as `account`. The words of `launcher` precede the server's program.
    ///
    /// # Errors
    /// Another process holds the lock, or a folder cannot be created.
    pub async fn open(
        folder: &Path,
        account: Account,
        installation: Installation,
        launcher: Vec<std::ffi::OsString>,
    ) -> Result<Self, ClusterError> {
        let cluster = Cluster::open(Place::at(folder.to_owned()), account, PORT)?;
        cluster.recover().await?;
        Ok(Self { cluster, installation, launcher })
    }

    /// The data directory, for an engine to restore into.
    pub fn data(&self) -> PathBuf {
        self.cluster.data()
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.cluster.folder()
    }

    /// The programs that run on it.
    pub fn installation(&self) -> &Installation {
        &self.installation
    }

    /// Removes the data directory if it is there, and creates an empty one of PostgreSQL's account.
    ///
    /// # Errors
    /// A folder cannot be removed or created.
    pub fn clear(&self) -> Result<(), ClusterError> {
        let data = self.data();
        remove(&data)?;
        cluster::create_owned(&data, self.cluster.account())
    }

    /// Removes the folder with all its data.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn remove(self) -> Result<(), ClusterError> {
        remove(self.folder())
    }

    /// Starts a server with the `preload_libraries` (`shared_preload_libraries`) of the live cluster. With a `recovery`, it
    /// first recovers the data directory and then accepts writes; without one, the data directory must have been recovered
    /// before. Must be called on a `LocalSet`.
    ///
    /// # Errors
    /// The data directory is of another major version, PostgreSQL does not reach the target, or it does not start.
    pub async fn start(
        &self,
        recovery: Option<&Recovery>,
        preload_libraries: &str,
    ) -> Result<Server<'_>, RecoveryError> {
        let data = self.data();
        let major = self.cluster.major().ok_or_else(|| RecoveryError::NoCluster(data.clone()))?;
        if major != self.installation.version.major {
            return Err(RecoveryError::Major { data, major, installed: self.installation.version.major });
        }
        if let Some(Recovery { target: target @ RecoveryTarget::Time(time), .. }) = recovery
            && configuration::backup_start(&data).is_some_and(|start| *time < start)
        {
            return Err(RecoveryError::BeforeBackup(target.clone()));
        }
        let control = ControlData::read(&self.installation, &data).map_err(file_error(&data))?;
        self.cluster.recover().await?;
        self.prepare(recovery)?;
        let mut program = self.cluster.configured(
            &self.installation,
            configuration::files(&self.cluster, recovery, &self.cluster.user()?),
        )?;
        program.arguments.extend(configuration::arguments(&self.cluster, major, preload_libraries));
        let mut words = self.launcher.iter().cloned();
        if let Some(wrapper) = words.next() {
            let inner = std::mem::replace(&mut program.path, wrapper.into()).into_os_string();
            let arguments = std::mem::take(&mut program.arguments);
            program.arguments = words.chain([inner]).chain(arguments).collect();
        }
        server::start(self, &program, recovery, &control).await
    }

    /// Makes the data directory ready for a start: removes the recovery settings that the engine or an earlier recovery left,
    /// and requests recovery.
    fn prepare(&self, recovery: Option<&Recovery>) -> Result<(), ClusterError> {
        let data = self.data();
        let settings = data.join("postgresql.auto.conf");
        match fs::read_to_string(&settings) {
            Ok(text) => {
                let kept = configuration::without_recovery(&text);
                if kept != text {
                    self.write(&settings, &kept)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(file_error(&settings)(error)),
        }
        remove(&data.join("standby.signal"))?;
        let signal = data.join("recovery.signal");
        match recovery {
            Some(_) => self.write(&signal, ""),
            None => remove(&signal),
        }
    }

    /// Replaces a file of the data directory by one of PostgreSQL's account, which reads and writes it.
    fn write(&self, path: &Path, text: &str) -> Result<(), ClusterError> {
        let account = self.cluster.account();
        let partial = path.with_extension("tercet");
        remove(&partial)?;
        let written = fs::File::options().write(true).create_new(true).mode(0o600).open(&partial).and_then(
            |mut file| {
                if account.is_another() {
                    fchown(&file, Some(account.uid), Some(account.gid))?;
                }
                file.write_all(text.as_bytes())?;
                file.sync_all()
            },
        );
        written.map_err(file_error(&partial))?;
        fs::rename(&partial, path).map_err(file_error(path))
    }
}

/// Removes a file or a folder with its content; one that is missing is no error.
fn remove(path: &Path) -> Result<(), ClusterError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error(path)(error)),
        _ => Ok(()),
    }
}
