//! What a machine knows of the backups without asking the repository: its own record, written by each task.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tercet_database::restored::Verification;
use tercet_machine::file::{Contents, File};
use tercet_machine::path::Owner;

use super::settings::{ACCOUNT, in_folder};

/// The backups of a project's database, as the machine that makes them last saw them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The system identifier of the cluster that is backed up; `None` before the repository is initialised.
    pub cluster: Option<String>,
    /// The backups, oldest first.
    pub backups: Vec<Backup>,
    /// The last check of each, by its id.
    pub checks: BTreeMap<String, Verification>,
    /// Why the last attempt at a backup failed, if it did.
    pub failure: Option<Failure>,
}

/// A backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// Its name in the repository.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// The backup that an incremental one needs.
    pub prior: Option<String>,
    /// When it began.
    pub started: Timestamp,
    /// When it ended: from here on the database can be restored to any time that the archive covers.
    pub finished: Timestamp,
    /// The size of the database, in bytes.
    pub size: u64,
    /// What it takes in the repository, in bytes.
    pub stored: u64,
    /// The system identifier of its cluster.
    pub cluster: String,
    /// Whether pages were damaged when they were copied.
    pub is_damaged: bool,
    /// The files with such pages.
    pub damage: Vec<String>,
}

/// The kind of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// All files.
    Full,
    /// What has changed since another backup.
    Incremental,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
        })
    }
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub why: String,
}

impl Record {
    /// Reads this machine's record; an empty one before the first task.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn read() -> Result<Self> {
        let path = path();
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Writes it whole or not at all. On a full disk the old one stays.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(&self) -> Result<()> {
        let contents = Contents::Text(serde_json::to_string_pretty(self)? + "\n");
        let file = File { path: path(), contents, owner: Owner::of(ACCOUNT), mode: 0o600 };
        file.write().with_context(|| file.path.display().to_string())
    }

    /// The newest backup.
    pub fn latest(&self) -> Option<&Backup> {
        self.backups.last()
    }

    /// The newest backup that passed its last check.
    pub fn last_passed(&self) -> Option<(&Backup, &Verification)> {
        let mut checked = self.backups.iter().rev().filter_map(|it| Some((it, self.checks.get(&it.id)?)));
        checked.find(|(_, checked)| checked.passed())
    }

    /// The full backup that a backup needs; itself, if it is one.
    pub(crate) fn full_of<'r>(&'r self, backup: &'r Backup) -> &'r Backup {
        let mut backup = backup;
        while let Some(prior) = &backup.prior {
            let Some(earlier) = self.backups.iter().find(|it| it.id == *prior) else { break };
            backup = earlier;
        }
        backup
    }
}

fn path() -> PathBuf {
    in_folder("record.json")
}
