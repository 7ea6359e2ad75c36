//! Directories with their owner and mode.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::error::Error;
use crate::path::{self, Kind, Owner, attribute_changes, set_attributes};
use crate::record::{Before, is_named_by_tercet};
use crate::resource::{Action, Context, Resource};

/// A directory as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Its path; the parent must exist or come earlier in the list.
    pub path: PathBuf,
    /// Owner and group.
    pub owner: Owner,
    /// Permission bits, for example `0o750`.
    pub mode: u32,
}

impl Directory {
    /// The step that creates it, or sets owner and mode.
    pub(crate) fn step(&self, context: &Context<'_>) -> Option<Step> {
        let changes = self.changes(context);
        (!changes.is_empty()).then(|| Step::Make { directory: self.clone(), changes })
    }

    fn changes(&self, context: &Context<'_>) -> Vec<Change> {
        let facts = context.paths.get(&self.path);
        let mut changes = Vec::new();
        match facts.map(|facts| &facts.kind) {
            Some(Kind::Directory) => {}
            Some(_) => changes.push(Change::new("kind", "not a directory", "directory")),
            None => {
                let to = format!("{} {:04o}", self.owner, self.mode);
                changes.push(Change::new("directory", "absent", to));
            }
        }
        changes.extend(attribute_changes(facts, &self.owner, self.mode));
        changes
    }

    /// Creates it if it is missing and sets owner and mode.
    ///
    /// # Errors
    /// It cannot be created, or its owner does not exist.
    pub fn make(&self) -> io::Result<()> {
        match fs::create_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.path.is_dir() => {}
            made => made?,
        }
        set_attributes(&self.path, &self.owner, self.mode)
    }
}

/// A change to a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Creates it, or sets owner and mode.
    Make {
        /// The directory.
        directory: Directory,
        /// The differences.
        changes: Vec<Change>,
    },
    /// Removes it: with its contents if it is named by tercet, else only if it is empty.
    Remove {
        /// Its path.
        path: PathBuf,
    },
}

impl Resource for Vec<Directory> {
    type Facts = ();
    type Record = BTreeMap<PathBuf, Before>;
    type Step = Step;

    fn paths(&self, recorded: &Self::Record) -> Vec<(PathBuf, bool)> {
        self.iter().map(|it| &it.path).chain(recorded.keys()).map(|path| (path.clone(), false)).collect()
    }

    fn probe(&self, _recorded: &Self::Record) -> Result<(), Error> {
        Ok(())
    }

    fn diff(&self, (): &(), context: &mut Context<'_>) -> Vec<Step> {
        self.iter().filter_map(|directory| directory.step(context)).collect()
    }

    fn removal(recorded: &Self::Record, (): &(), context: &mut Context<'_>) -> Vec<Step> {
        // A directory comes after those in it.
        let created = recorded.iter().rev().filter(|(_, before)| **before == Before::Absent);
        let present = created.filter(|(path, _)| context.paths.contains_key(*path));
        present.map(|(path, _)| Step::Remove { path: path.clone() }).collect()
    }

    fn recorded(&self, _files: &BTreeSet<&Path>) -> Self::Record {
        self.iter().map(|directory| (directory.path.clone(), Before::Absent)).collect()
    }

    fn record(
        &self,
        _files: &BTreeSet<&Path>,
        _originals: &Path,
        record: &mut Self::Record,
    ) -> io::Result<()> {
        for Directory { path, .. } in self {
            if !record.contains_key(path) {
                record.insert(path.clone(), Before::of(path.exists(), path));
            }
        }
        Ok(())
    }

    fn forget(&self, removed: &[PathBuf], record: &mut Self::Record) {
        path::forget(record, removed);
    }
}

impl Action for Step {
    fn changes(&self) -> &[Change] {
        match self {
            Self::Make { changes, .. } => changes,
            Self::Remove { .. } => &[],
        }
    }

    fn execute(&self, _note: &mut dyn FnMut(&str)) -> Result<(), Error> {
        match self {
            Self::Make { directory, .. } => directory.make().map_err(Error::change(&directory.path)),
            Self::Remove { path } if is_named_by_tercet(path) => path::remove(path),
            Self::Remove { path } => match fs::remove_dir(path) {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) =>
                {
                    Ok(())
                }
                removed => removed.map_err(Error::change(path)),
            },
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Make { directory, .. } => write!(f, "make directory {}", directory.path.display()),
            Self::Remove { path } => write!(f, "remove {}", path.display()),
        }
    }
}
