//! Files with their contents, owner and mode. A reader sees the old file or the new one, never a part of either.

mod distributed;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use similar::TextDiff;

use crate::change::Change;
use crate::error::Error;
use crate::path::{self, Kind, Owner, attribute_changes, digest, set_attributes};
use crate::record::{Before, is_named_by_tercet};
use crate::resource::{Action, Context, Resource};
use crate::secret::Secret;

/// The beginning of a file that tercet wrote over an original before it kept copies.
const HEADER: &str = "# Written by tercet";

/// A file as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its path.
    pub path: PathBuf,
    /// Its contents.
    pub contents: Contents,
    /// Owner and group.
    pub owner: Owner,
    /// Permission bits, for example `0o640`.
    pub mode: u32,
}

/// The contents of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contents {
    /// Text that a plan may show.
    Text(String),
    /// Text that must not be shown.
    Secret(Secret),
}

impl Contents {
    fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Secret(secret) => secret.reveal(),
        }
    }
}

impl File {
    /// The file as Debian's packages make it, if a service does not start without it.
    fn distributed(path: &Path) -> Option<Self> {
        let text = distributed::text(path)?.to_owned();
        Some(Self {
            path: path.to_owned(),
            contents: Contents::Text(text),
            owner: Owner::of("postgres"),
            mode: 0o640,
        })
    }

    fn may_be_shown(&self) -> bool {
        matches!(self.contents, Contents::Text(_))
    }

    fn changes(&self, context: &Context<'_>) -> Vec<Change> {
        let facts = context.paths.get(&self.path);
        let mut changes = Vec::new();
        let wanted = self.contents.as_str();
        match facts.map(|facts| &facts.kind) {
            Some(Kind::File { digest: there, .. }) if *there == digest(wanted.as_bytes()) => {}
            Some(Kind::File { text: Some(text), .. }) if self.may_be_shown() => {
                let diff =
                    TextDiff::from_lines(text.as_str(), wanted).unified_diff().context_radius(0).to_string();
                changes.push(Change::new("contents", "", diff));
            }
            Some(Kind::File { .. }) => {
                changes.push(Change::new("contents", "other contents", "new contents"));
            }
            Some(Kind::Directory | Kind::Other) => changes.push(Change::new("kind", "not a file", "file")),
            None => {
                let to = format!("{} lines, {} {:04o}", wanted.lines().count(), self.owner, self.mode);
                changes.push(Change::new("contents", "absent", to));
            }
        }
        changes.extend(attribute_changes(facts, &self.owner, self.mode));
        changes
    }

    /// Writes a temporary file in the same directory, with owner and mode, syncs it and renames it.
    ///
    /// # Errors
    /// The directory is missing or not writable.
    pub fn write(&self) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        let mut new = tempfile::Builder::new().prefix(".tercet-").tempfile_in(directory)?;
        new.write_all(self.contents.as_str().as_bytes())?;
        set_attributes(new.path(), &self.owner, self.mode)?;
        new.as_file().sync_all()?;
        new.persist(&self.path).map_err(|error| error.error)?;
        fs::File::open(directory)?.sync_all()
    }
}

/// A change to a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Writes it.
    Write {
        /// The file.
        file: File,
        /// The differences.
        changes: Vec<Change>,
    },
    /// Removes it.
    Remove {
        /// Its path.
        path: PathBuf,
    },
    /// Restores the file that was there before, from its copy.
    Restore {
        /// Its path.
        path: PathBuf,
        /// The copy's path.
        copy: PathBuf,
    },
}

impl Step {
    /// The step that writes `file`, if it differs.
    fn write(file: &File, context: &Context<'_>) -> Option<Self> {
        let changes = file.changes(context);
        (!changes.is_empty()).then(|| Self::Write { file: file.clone(), changes })
    }
}

impl Resource for Vec<File> {
    type Facts = ();
    type Record = BTreeMap<PathBuf, Before>;
    type Step = Step;

    fn paths(&self, recorded: &Self::Record) -> Vec<(PathBuf, bool)> {
        let copies = recorded.values().filter_map(|before| match before {
            Before::Kept(copy) => Some(copy),
            _ => None,
        });
        let recorded = recorded.keys().chain(copies).map(|path| (path.clone(), false));
        self.iter().map(|file| (file.path.clone(), file.may_be_shown())).chain(recorded).collect()
    }

    fn probe(&self, _recorded: &Self::Record) -> Result<(), Error> {
        Ok(())
    }

    fn diff(&self, (): &(), context: &mut Context<'_>) -> Vec<Step> {
        let mut steps = Vec::new();
        for file in self {
            if let Some(step) = Step::write(file, context) {
                context.written.insert(file.path.clone());
                steps.push(step);
            }
        }
        steps
    }

    fn removal(recorded: &Self::Record, (): &(), context: &mut Context<'_>) -> Vec<Step> {
        let mut steps = Vec::new();
        for (path, before) in recorded {
            if context.removed.contains(path) {
                continue;
            }
            let is_present = |path: &Path| context.paths.contains_key(path);
            let step = match (before, File::distributed(path)) {
                (Before::Kept(copy), _) if is_present(copy) => {
                    Some(Step::Restore { path: path.clone(), copy: copy.clone() })
                }
                (Before::Absent, Some(file)) => Step::write(&file, context),
                (Before::Absent, None) if is_present(path) => Some(Step::Remove { path: path.clone() }),
                _ => None,
            };
            if step.is_some() {
                context.removed.insert(path.clone());
            }
            steps.extend(step);
        }
        steps
    }

    fn recorded(&self, _files: &BTreeSet<&Path>) -> Self::Record {
        self.iter().map(|file| (file.path.clone(), Before::Absent)).collect()
    }

    fn record(
        &self,
        _files: &BTreeSet<&Path>,
        originals: &Path,
        record: &mut Self::Record,
    ) -> io::Result<()> {
        for file in self {
            if !record.contains_key(&file.path) {
                record.insert(file.path.clone(), keep(file, originals)?);
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
            Self::Write { changes, .. } => changes,
            Self::Remove { .. } | Self::Restore { .. } => &[],
        }
    }

    fn execute(&self, _note: &mut dyn FnMut(&str)) -> Result<(), Error> {
        match self {
            Self::Write { file, .. } => file.write().map_err(Error::change(&file.path)),
            Self::Remove { path } => path::remove(path),
            Self::Restore { path, copy } => restore(path, copy).map_err(Error::change(path)),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { file, .. } => write!(f, "write {}", file.path.display()),
            Self::Remove { path } => write!(f, "remove {}", path.display()),
            Self::Restore { path, .. } => write!(f, "restore the original {}", path.display()),
        }
    }
}

/// Returns the state before a file is written, after copying a file that is not tercet's below `originals`.
fn keep(file: &File, originals: &Path) -> io::Result<Before> {
    let path = &file.path;
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() && !is_named_by_tercet(path) => metadata,
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => return Ok(Before::Absent),
    };
    let contents = fs::read(path)?;
    if contents.starts_with(HEADER.as_bytes()) || contents == file.contents.as_str().as_bytes() {
        return Ok(Before::Absent);
    }
    let copy = originals.join(path.strip_prefix("/").unwrap_or(path));
    let parent = copy.parent().unwrap_or(originals);
    fs::create_dir_all(originals.parent().unwrap_or(originals))?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    fs::write(&copy, &contents)?;
    std::os::unix::fs::lchown(&copy, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    fs::File::open(&copy)?.sync_all()?;
    Ok(Before::Kept(copy))
}

/// Restores a file from its copy, then removes the copy.
fn restore(path: &Path, copy: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let metadata = fs::metadata(copy)?;
    let new = tempfile::Builder::new().prefix(".tercet-").tempfile_in(directory)?;
    fs::write(new.path(), fs::read(copy)?)?;
    std::os::unix::fs::lchown(new.path(), Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(new.path(), fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    new.as_file().sync_all()?;
    new.persist(path).map_err(|error| error.error)?;
    fs::File::open(directory)?.sync_all()?;
    fs::remove_file(copy)
}
