//! One thing to do to a machine, and how it reads in a plan.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cluster::{Database, Role};
use crate::directory::Directory;
use crate::file::File;
use crate::firewall::Firewall;
use crate::sysctl::Sysctl;

/// One thing to do. Each may be repeated: a killed run leaves a machine from which the next one converges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the Display of each says what it does")]
pub enum Step {
    InstallPackages {
        names: Vec<String>,
    },
    CreateUser {
        name: String,
    },
    MakeDirectory {
        directory: Directory,
        changes: Vec<Change>,
    },
    WriteFile {
        file: File,
        changes: Vec<Change>,
    },
    Remove {
        path: PathBuf,
    },
    /// Puts back the file that was there before ours, from its copy.
    RestoreFile {
        path: PathBuf,
        copy: PathBuf,
    },
    /// Removes a directory of ours, unless it has another name and something of others in it.
    RemoveDirectory {
        path: PathBuf,
    },
    RemoveUser {
        name: String,
    },
    SetSysctl {
        sysctl: Sysctl,
        changes: Vec<Change>,
    },
    ReloadSystemd,
    EnableUnit {
        name: String,
    },
    DisableUnit {
        name: String,
    },
    StartUnit {
        name: String,
    },
    StopUnit {
        name: String,
    },
    /// Has systemd judge a unit's file before anything depends on it.
    VerifyUnit {
        name: String,
    },
    /// Stops and disables a unit of ours and removes its file, whatever state it is in.
    RemoveUnit {
        name: String,
    },
    RestartUnit {
        name: String,
        why: String,
    },
    ReloadUnit {
        name: String,
        why: String,
    },
    EnsureRole {
        role: Role,
        changes: Vec<Change>,
    },
    EnsureDatabase {
        database: Database,
        changes: Vec<Change>,
    },
    /// Puts the new rules in force; the old ones return by themselves unless [`Step::KeepFirewall`] follows.
    ReplaceFirewall {
        firewall: Firewall,
        changes: Vec<Change>,
    },
    /// Removes the table, what loads it at boot, and what is known of it.
    RemoveFirewall,
    /// Makes the rules permanent. Over ssh: only from a connection opened after they came into force.
    KeepFirewall {
        firewall: Firewall,
    },
}

/// One field of a thing that will change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// For example `mode`.
    pub field: String,
    /// What it is; empty when `to` is a difference and says both.
    pub from: String,
    /// What it will be.
    pub to: String,
}

impl Change {
    pub(crate) fn new(field: &str, from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { field: field.to_owned(), from: from.into(), to: to.into() }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from.is_empty() {
            write!(f, "{}:", self.field)?;
            return self.to.lines().try_for_each(|line| write!(f, "\n  {line}"));
        }
        write!(f, "{}: {} → {}", self.field, self.from, self.to)
    }
}

impl Step {
    /// What changes, field by field; empty where the step's own line says it all.
    pub fn changes(&self) -> &[Change] {
        match self {
            Self::MakeDirectory { changes, .. }
            | Self::WriteFile { changes, .. }
            | Self::SetSysctl { changes, .. }
            | Self::EnsureRole { changes, .. }
            | Self::EnsureDatabase { changes, .. }
            | Self::ReplaceFirewall { changes, .. } => changes,
            _ => &[],
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InstallPackages { names } => write!(f, "install {}", names.join(", ")),
            Self::CreateUser { name } => write!(f, "create system user {name}"),
            Self::MakeDirectory { directory, .. } => write!(f, "make directory {}", directory.path.display()),
            Self::WriteFile { file, .. } => write!(f, "write {}", file.path.display()),
            Self::Remove { path } | Self::RemoveDirectory { path } => write!(f, "remove {}", path.display()),
            Self::RestoreFile { path, .. } => {
                write!(f, "put back {} as it was before tercet", path.display())
            }
            Self::RemoveUser { name } => write!(f, "remove system user {name}"),
            Self::SetSysctl { sysctl, .. } => write!(f, "set {}", sysctl.key),
            Self::ReloadSystemd => write!(f, "have systemd read its unit files again"),
            Self::EnableUnit { name } => write!(f, "enable {name}"),
            Self::DisableUnit { name } => write!(f, "disable {name}"),
            Self::StartUnit { name } => write!(f, "start {name}"),
            Self::StopUnit { name } => write!(f, "stop {name}"),
            Self::VerifyUnit { name } => write!(f, "verify {name}"),
            Self::RemoveUnit { name } => write!(f, "remove {name}"),
            Self::RestartUnit { name, why } => write!(f, "restart {name}: {why}"),
            Self::ReloadUnit { name, why } => write!(f, "reload {name}: {why}"),
            Self::EnsureRole { role, .. } => write!(f, "set database role {}", role.name),
            Self::EnsureDatabase { database, .. } => write!(f, "set database {}", database.name),
            Self::ReplaceFirewall { .. } => write!(f, "replace the firewall rules"),
            Self::RemoveFirewall => write!(f, "remove the firewall rules"),
            Self::KeepFirewall { .. } => write!(f, "keep the firewall rules at every boot"),
        }
    }
}
