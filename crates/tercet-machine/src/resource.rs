//! The interface of a kind of resource. Imports no kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::change::Change;
use crate::error::Error;
use crate::path::PathFacts;
use crate::record::Record;

/// The desired resources of one kind, for example `Vec<Package>`: how to read, compare, create and remove them.
///
/// A plan is `diff` of every kind in the order of the list, `removal` of every kind in reverse order, then `finish` of
/// every kind.
pub trait Resource {
    /// The present state of this kind, besides the facts about [`paths`](Self::paths).
    type Facts;
    /// The inventory's entry for this kind.
    type Record: Record;
    /// A change to a resource of this kind.
    type Step: Action;

    /// The paths whose facts the plan needs, and whether a file's text may be read into them.
    fn paths(&self, _recorded: &Self::Record) -> Vec<(PathBuf, bool)> {
        Vec::new()
    }

    /// Reads the machine; changes nothing.
    ///
    /// # Errors
    /// A file cannot be read, or a program of the system fails.
    fn probe(&self, recorded: &Self::Record) -> Result<Self::Facts, Error>;

    /// The steps from the facts to the desired state.
    fn diff(&self, facts: &Self::Facts, context: &mut Context<'_>) -> Vec<Self::Step>;

    /// The steps that remove the recorded resources and restore the state before.
    fn removal(
        _recorded: &Self::Record,
        _facts: &Self::Facts,
        _context: &mut Context<'_>,
    ) -> Vec<Self::Step> {
        Vec::new()
    }

    /// The steps that follow all others: services that read a removed file are restarted, the firewall is replaced.
    fn finish(
        &self,
        _recorded: &Self::Record,
        _facts: &Self::Facts,
        _context: &Context<'_>,
    ) -> Vec<Self::Step> {
        Vec::new()
    }

    /// The inventory's entry for these resources on a machine that had none of them. `files` are the desired files.
    fn recorded(&self, _files: &BTreeSet<&Path>) -> Self::Record {
        Self::Record::default()
    }

    /// Adds to `record` the resources that it lacks, with the state before they are created. Copies of files go
    /// below `originals`.
    ///
    /// # Errors
    /// The machine cannot be read, or a copy cannot be written.
    fn record(
        &self,
        _files: &BTreeSet<&Path>,
        _originals: &Path,
        _record: &mut Self::Record,
    ) -> io::Result<()> {
        Ok(())
    }

    /// The paths that the desired state removes.
    fn removed(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Drops from `record` the resources that the desired state removed, and those at or below the paths `removed`.
    fn forget(&self, _removed: &[PathBuf], _record: &mut Self::Record) {}
}

/// One change to a resource. Its `Display` is the line of the plan.
pub trait Action: fmt::Display {
    /// The changed fields; empty where the step's own line is complete.
    fn changes(&self) -> &[Change] {
        &[]
    }

    /// Makes the change: atomic where the system allows, safe to repeat. `note` is called with progress messages.
    ///
    /// # Errors
    /// It failed; the resource is unchanged, or the next plan completes the change.
    fn execute(&self, note: &mut dyn FnMut(&str)) -> Result<(), Error>;
}

/// Information that earlier kinds of a plan pass to later ones.
#[derive(Debug)]
pub struct Context<'f> {
    /// The facts about the paths of all kinds.
    pub paths: &'f BTreeMap<PathBuf, PathFacts>,
    /// The files that the inventory records.
    pub files: BTreeSet<&'f Path>,
    /// Files that earlier steps write.
    pub written: BTreeSet<PathBuf>,
    /// Paths that earlier steps remove.
    pub removed: BTreeSet<PathBuf>,
}

impl<'f> Context<'f> {
    pub(crate) fn new(
        paths: &'f BTreeMap<PathBuf, PathFacts>,
        files: impl Iterator<Item = &'f PathBuf>,
    ) -> Self {
        let files = files.map(PathBuf::as_path).collect();
        Self { paths, files, written: BTreeSet::new(), removed: BTreeSet::new() }
    }
}
