//! Files: contents, owner and mode, written so that a reader sees the old or the new one, never half.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use similar::TextDiff;

use crate::facts::Names;
use crate::secret::Secret;
use crate::step::Change;

/// The most text of a file that a plan compares line by line: 64 KiB.
const DIFF_LIMIT: u64 = 64 << 10;

/// A file as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where.
    pub path: PathBuf,
    /// What it holds.
    pub contents: Contents,
    /// Owner and group.
    pub owner: Owner,
    /// Permission bits, for example `0o640`.
    pub mode: u32,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contents {
    /// Text that a plan may show.
    Text(String),
    /// Text that nothing may show.
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

/// The user and group a file belongs to, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The user's name.
    pub user: String,
    /// The group's name.
    pub group: String,
}

impl Owner {
    /// root:root.
    pub fn root() -> Self {
        Self::of("root")
    }

    /// A user and its group of the same name.
    pub fn of(name: &str) -> Self {
        Self { user: name.to_owned(), group: name.to_owned() }
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.user, self.group)
    }
}

/// What stands at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathFacts {
    /// What it is.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group; numbers where there is no name.
    pub owner: Owner,
    /// When its contents last changed, since the Unix epoch.
    pub modified: Duration,
}

/// What kind of thing a path is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file with the SHA-256 of its contents and, when it is short and not secret, its text.
    File {
        /// Hexadecimal SHA-256.
        digest: String,
        /// The text to compare with.
        text: Option<String>,
    },
    /// A link, a socket, a device.
    Other,
}

/// What is at `path`; `None` when nothing is. `show` says whether a file's text may be read into the facts.
pub(crate) fn probe(path: &Path, show: bool, names: &mut Names) -> io::Result<Option<PathFacts>> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        metadata => metadata?,
    };
    let kind = if metadata.is_dir() {
        Kind::Directory
    } else if metadata.is_file() {
        let bytes = fs::read(path)?;
        // A file that only its owner may read may hold a secret now, whatever it is to hold next.
        let show = show && metadata.mode() & 0o077 != 0 && metadata.len() <= DIFF_LIMIT;
        let text = show.then(|| String::from_utf8(bytes.clone()).ok()).flatten();
        Kind::File { digest: digest(&bytes), text }
    } else {
        Kind::Other
    };
    Ok(Some(PathFacts {
        kind,
        mode: metadata.mode() & 0o7777,
        owner: Owner { user: names.user(metadata.uid()), group: names.group(metadata.gid()) },
        modified: metadata.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
    }))
}

impl File {
    /// Whether plans may show what it holds.
    pub(crate) fn may_be_shown(&self) -> bool {
        matches!(self.contents, Contents::Text(_))
    }

    /// What differs; empty when it is as desired.
    pub(crate) fn changes(&self, paths: &BTreeMap<PathBuf, PathFacts>) -> Vec<Change> {
        let facts = paths.get(&self.path);
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

    /// Writes the file beside its place, with owner and mode, syncs it and renames it in.
    ///
    /// # Errors
    /// Its folder is missing or cannot be written to.
    pub fn write(&self) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let mut new = tempfile::Builder::new().prefix(".tercet-").tempfile_in(folder)?;
        new.write_all(self.contents.as_str().as_bytes())?;
        set_attributes(new.path(), &self.owner, self.mode)?;
        new.as_file().sync_all()?;
        new.persist(&self.path).map_err(|error| error.error)?;
        fs::File::open(folder)?.sync_all()
    }
}

/// What differs in owner and mode; nothing for what is not there, since it will be made with them.
pub(crate) fn attribute_changes(facts: Option<&PathFacts>, owner: &Owner, mode: u32) -> Vec<Change> {
    let Some(facts) = facts else { return Vec::new() };
    let mut changes = Vec::new();
    if facts.owner != *owner {
        changes.push(Change::new("owner", facts.owner.to_string(), owner.to_string()));
    }
    if facts.mode != mode {
        changes.push(Change::new("mode", format!("{:04o}", facts.mode), format!("{mode:04o}")));
    }
    changes
}

/// Sets owner, then mode (a change of owner clears set-id bits).
pub(crate) fn set_attributes(path: &Path, owner: &Owner, mode: u32) -> io::Result<()> {
    let (user, group) = crate::facts::numbers(owner)?;
    std::os::unix::fs::lchown(path, Some(user), Some(group))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
