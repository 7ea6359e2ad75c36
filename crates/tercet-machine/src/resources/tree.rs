//! Trees of files that only root may change: programs that run on the machine. Other owners, write permission for others and
//! set-id bits are taken away.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::error::Error;
use crate::resource::{Action, Context, Resource};

/// The differing files of a tree that are shown; all are mended.
const SHOWN: usize = 5;

/// A file or a folder with all that is in it; it may be missing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tree(pub PathBuf);

/// What differs in a tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeFacts {
    /// The number of differing files and folders.
    count: usize,
    /// The first of them with owner and mode.
    first: BTreeMap<PathBuf, String>,
}

/// A change to a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Gives it to root, writable by root alone.
    Seal {
        /// The tree.
        tree: Tree,
        /// The number of differing files and folders.
        count: usize,
        /// The first differences.
        changes: Vec<Change>,
    },
}

impl Resource for Vec<Tree> {
    /// The trees that differ.
    type Facts = BTreeMap<PathBuf, TreeFacts>;
    type Record = ();
    type Step = Step;

    fn probe(&self, (): &()) -> Result<Self::Facts, Error> {
        let mut facts = BTreeMap::new();
        for Tree(path) in self {
            let mut found = TreeFacts::default();
            each(path, &mut |path, metadata| {
                if is_sealed(metadata) {
                    return Ok(());
                }
                found.count += 1;
                if found.first.len() < SHOWN {
                    let shown =
                        format!("{}:{} {:04o}", metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
                    found.first.insert(path.to_owned(), shown);
                }
                Ok(())
            })
            .map_err(|source| Error::Read { path: path.clone(), source })?;
            if found.count > 0 {
                facts.insert(path.clone(), found);
            }
        }
        Ok(facts)
    }

    fn diff(&self, facts: &Self::Facts, _context: &mut Context<'_>) -> Vec<Step> {
        let differing = self.iter().filter_map(|tree| Some((tree, facts.get(&tree.0)?)));
        differing
            .map(|(tree, TreeFacts { count, first })| {
                let changes = first.iter().map(|(path, from)| {
                    Change::new(
                        &path.display().to_string(),
                        from.clone(),
                        "root's, and not writable by others",
                    )
                });
                Step::Seal { tree: tree.clone(), count: *count, changes: changes.collect() }
            })
            .collect()
    }
}

impl Action for Step {
    fn changes(&self) -> &[Change] {
        let Self::Seal { changes, .. } = self;
        changes
    }

    fn execute(&self, _note: &mut dyn FnMut(&str)) -> Result<(), Error> {
        let Self::Seal { tree: Tree(path), .. } = self;
        each(path, &mut |path, metadata| {
            if is_sealed(metadata) {
                return Ok(());
            }
            lchown(path, Some(0), Some(0))?;
            if metadata.is_symlink() {
                return Ok(());
            }
            fs::set_permissions(path, fs::Permissions::from_mode(metadata.mode() & 0o755))
        })
        .map_err(Error::change(path))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Seal { tree, count, .. } = self;
        write!(f, "give {count} files of {} to root, writable by root alone", tree.0.display())
    }
}

/// Whether only root can change a file; the mode of a symbolic link means nothing.
fn is_sealed(metadata: &fs::Metadata) -> bool {
    let is_roots = metadata.uid() == 0 && metadata.gid() == 0;
    is_roots && (metadata.is_symlink() || metadata.mode() & 0o6022 == 0)
}

/// Calls `visit` with a path and all below it, a folder before what is in it; follows no symbolic link.
fn each(path: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata) -> io::Result<()>) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    visit(path, &metadata)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            each(&entry?.path(), visit)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_that_others_may_write_to_is_sealed_by_one_step() {
        let folder = tempfile::tempdir().unwrap();
        // Only root can give files away.
        if fs::metadata(folder.path()).unwrap().uid() != 0 {
            return;
        }
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("bin")).unwrap();
        for (name, mode) in [("bin/server", 0o4755), ("data", 0o666), ("fine", 0o444)] {
            fs::write(path(name), "").unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        lchown(path("fine"), Some(65534), Some(0)).unwrap();
        std::os::unix::fs::symlink("/etc/shadow", path("link")).unwrap();
        let trees = vec![Tree(folder.path().to_owned()), Tree(path("missing"))];
        let facts = trees.probe(&()).unwrap();
        assert_eq!(facts[folder.path()].count, 3);
        let paths = BTreeMap::new();
        let mut context = Context::new(&paths, std::iter::empty());
        let steps = trees.diff(&facts, &mut context);
        assert_eq!(steps.len(), 1);
        steps[0].execute(&mut |_| {}).unwrap();
        assert_eq!(trees.probe(&()).unwrap(), BTreeMap::new());
        assert_eq!(fs::metadata(path("bin/server")).unwrap().mode() & 0o7777, 0o755);
        assert_eq!(fs::metadata(path("fine")).unwrap().mode() & 0o7777, 0o444);
    }
}
