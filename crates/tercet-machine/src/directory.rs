//! Directories.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::file::{Kind, Owner, PathFacts, attribute_changes, set_attributes};
use crate::step::Change;

/// A directory as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Where; its parent must exist or come before it.
    pub path: PathBuf,
    /// Owner and group.
    pub owner: Owner,
    /// Permission bits, for example `0o750`.
    pub mode: u32,
}

impl Directory {
    /// What differs; empty when it is as desired.
    pub(crate) fn changes(&self, paths: &BTreeMap<PathBuf, PathFacts>) -> Vec<Change> {
        let facts = paths.get(&self.path);
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

    /// Makes it where it is missing and sets owner and mode.
    ///
    /// # Errors
    /// It cannot be made, or belongs to a user that is not there.
    pub fn make(&self) -> io::Result<()> {
        match fs::create_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.path.is_dir() => {}
            made => made?,
        }
        set_attributes(&self.path, &self.owner, self.mode)
    }
}
