//! Backups: the tasks that run on the machines. pgBackRest is the engine, and only the module `pgbackrest` knows its words.

pub(crate) mod copy;
pub(crate) mod heartbeat;
mod metrics;
pub(crate) mod pgbackrest;
pub mod record;
pub mod replace;
mod retention;
pub(crate) mod run;
pub(crate) mod settings;

use std::fmt;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// The units of the tasks.
pub(crate) mod units {
    pub(crate) const FULL: &str = "tercet-backup-full.service";
    pub(crate) const INCREMENTAL: &str = "tercet-backup-incremental.service";
    /// A template: the instance is the id of the backup.
    pub(crate) const CHECK: &str = "tercet-backup-check@.service";
    pub(crate) const COPY: &str = "tercet-restored.service";
    pub(crate) const HEARTBEAT: &str = "tercet-heartbeat.service";
}

/// A task that a timer starts on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Make a backup.
    BackUp {
        /// Whether all is copied, not only what has changed.
        full: bool,
    },
    /// Check a backup.
    Check {
        /// Its id, or `latest`.
        backup: String,
    },
    /// Restore a copy beside the database, and serve it.
    Copy,
    /// Write the time into the database, and look at the archive.
    Heartbeat,
}

impl Task {
    /// The unit that runs it.
    ///
    /// # Errors
    /// The id of the backup has characters that no id has.
    pub(crate) fn unit(&self) -> Result<String> {
        Ok(match self {
            Self::BackUp { full: true } => units::FULL.to_owned(),
            Self::BackUp { full: false } => units::INCREMENTAL.to_owned(),
            Self::Check { backup } => {
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
                ensure!(backup.bytes().all(is_plain), "{backup:?} is no id of a backup");
                units::CHECK.replace('@', &format!("@{backup}"))
            }
            Self::Copy => units::COPY.to_owned(),
            Self::Heartbeat => units::HEARTBEAT.to_owned(),
        })
    }

    /// Runs it on this machine, as the account of the backups; `say` gets a line for each thing that happens, and `ready` is
    /// called when a task that stays has begun to serve.
    ///
    /// # Errors
    /// It failed: the error names the cause.
    pub fn run(&self, say: &mut dyn FnMut(&str), ready: &mut dyn FnMut()) -> Result<()> {
        match self {
            Self::BackUp { full } => run::back_up(*full, say),
            Self::Check { backup } => run::check(backup, say),
            Self::Copy => copy::run(say, ready),
            Self::Heartbeat => heartbeat::run(),
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BackUp { full: true } => f.write_str("a full backup"),
            Self::BackUp { full: false } => f.write_str("an incremental backup"),
            Self::Check { backup } if backup == run::LATEST => f.write_str("the check of the latest backup"),
            Self::Check { backup } => write!(f, "the check of backup {backup}"),
            Self::Copy => f.write_str("the copy"),
            Self::Heartbeat => f.write_str("the heartbeat"),
        }
    }
}
