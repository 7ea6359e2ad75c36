//! System users.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::command::{CommandError, output, run};
use crate::error::Error;
use crate::record::Before;
use crate::resource::{Action, Context, Resource};

/// A system user with a group of the same name, no home directory and no shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct User(pub String);

/// A change to a system user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Creates the user and its group.
    Create {
        /// Its name.
        name: String,
    },
    /// Removes the user and its group.
    Remove {
        /// Its name.
        name: String,
    },
}

impl Resource for Vec<User> {
    /// The users that exist.
    type Facts = BTreeSet<String>;
    type Record = BTreeMap<String, Before>;
    type Step = Step;

    fn probe(&self, recorded: &Self::Record) -> Result<Self::Facts, Error> {
        let mut present = BTreeSet::new();
        for name in self.iter().map(|user| &user.0).chain(recorded.keys()) {
            if exists(name)? {
                present.insert(name.clone());
            }
        }
        Ok(present)
    }

    fn diff(&self, facts: &Self::Facts, _context: &mut Context<'_>) -> Vec<Step> {
        let missing = self.iter().filter(|user| !facts.contains(&user.0));
        missing.map(|user| Step::Create { name: user.0.clone() }).collect()
    }

    fn removal(recorded: &Self::Record, facts: &Self::Facts, _context: &mut Context<'_>) -> Vec<Step> {
        let created = recorded.iter().filter(|(_, before)| **before == Before::Absent);
        let present = created.filter(|(name, _)| facts.contains(*name));
        present.map(|(name, _)| Step::Remove { name: name.clone() }).collect()
    }

    fn recorded(&self, _files: &BTreeSet<&Path>) -> Self::Record {
        self.iter().map(|user| (user.0.clone(), Before::Absent)).collect()
    }

    fn record(
        &self,
        _files: &BTreeSet<&Path>,
        _originals: &Path,
        record: &mut Self::Record,
    ) -> io::Result<()> {
        for User(name) in self {
            if !record.contains_key(name) {
                let exists = exists(name).map_err(io::Error::other)?;
                record.insert(name.clone(), Before::of(exists, Path::new(name)));
            }
        }
        Ok(())
    }
}

impl Action for Step {
    fn execute(&self, _note: &mut dyn FnMut(&str)) -> Result<(), Error> {
        match self {
            Self::Create { name } => create(name)?,
            Self::Remove { name } if exists(name)? => run("userdel", &["--", name]).map(drop)?,
            Self::Remove { .. } => {}
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { name } => write!(f, "create system user {name}"),
            Self::Remove { name } => write!(f, "remove system user {name}"),
        }
    }
}

fn exists(name: &str) -> Result<bool, CommandError> {
    Ok(id(name)?.is_some())
}

/// The number of a user, if there is one of that name.
///
/// # Errors
/// getent(1) cannot be started.
pub fn id(name: &str) -> Result<Option<u32>, CommandError> {
    let output = output("getent", &["passwd", "--", name], "")?;
    let line = String::from_utf8_lossy(&output.stdout);
    Ok(line.split(':').nth(2).filter(|_| output.status.success()).and_then(|id| id.parse().ok()))
}

fn create(name: &str) -> Result<(), CommandError> {
    let identity = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"];
    let shell = ["--shell", "/usr/sbin/nologin", "--", name];
    run("useradd", &[&identity[..], &shell].concat()).map(drop)
}
