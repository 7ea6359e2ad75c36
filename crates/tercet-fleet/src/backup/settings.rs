//! What the backup tasks of a machine are told: a file that the fleet writes and no secret is in.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Where a machine keeps it.
pub(crate) const FILE: &str = "/etc/tercet/backup.json";
/// The repository, copies of the database, and tercet's own records.
pub(crate) const FOLDER: &str = "/var/lib/tercet-backup";
/// The account that runs pgBackRest and PostgreSQL.
pub(crate) const ACCOUNT: &str = "postgres";
/// The project's own checks, SQL files.
pub(crate) const CHECKS: &str = "/etc/tercet/checks";

/// What the tasks on a machine need to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The name of the database and of its stanza, pgBackRest's word for a cluster and its backups.
    pub(crate) database: String,
    /// PostgreSQL's major version.
    pub(crate) major: u32,
    /// The port the cluster's Unix socket is named after.
    pub(crate) port: u16,
    /// Whether this machine makes the backups.
    pub(crate) makes_backups: bool,
    /// How many days back the database can be restored to.
    pub(crate) keep_days: u32,
    /// The size of the queue of the write-ahead log beyond which PostgreSQL drops it, in bytes.
    pub(crate) queue_limit: u64,
}

impl Settings {
    /// Reads the file; `None` without one.
    ///
    /// # Errors
    /// It cannot be read, or is not one.
    pub(crate) fn read() -> Result<Option<Self>> {
        match fs::read(FILE) {
            Ok(text) => serde_json::from_slice(&text).map(Some).context(FILE),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(FILE),
        }
    }

    /// Reads the file of a machine with backups.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn here() -> Result<Self> {
        Self::read()?.context("this machine has no part in the backups\nhint: tercet apply sets it up")
    }

    /// The folder of PostgreSQL's programs.
    pub(crate) fn programs(&self) -> PathBuf {
        programs(self.major)
    }
}

/// The folder of PostgreSQL's programs, as Debian has it.
pub(crate) fn programs(major: u32) -> PathBuf {
    PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"))
}

/// The data directory of Debian's main cluster.
pub(crate) fn data(major: u32) -> PathBuf {
    PathBuf::from(format!("/var/lib/postgresql/{major}/main"))
}

/// A path in [`FOLDER`].
pub(crate) fn in_folder(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}
