//! Paths: facts, owner and mode, removal. Shared by the kinds of resources that are or read files.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::change::Change;
use crate::command::run;
use crate::error::Error;

/// The largest file whose text a probe returns, in bytes.
const DIFF_LIMIT: u64 = 64 << 10;

/// The user and group a path belongs to, by name.
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

    /// The numeric user and group id.
    fn ids(&self) -> io::Result<(u32, u32)> {
        let id = |database: &str, name: &str| {
            run("getent", &[database, "--", name])
                .ok()
                .and_then(|line| line.split(':').nth(2)?.trim().parse().ok())
                .ok_or_else(|| {
                    io::Error::new(io::ErrorKind::NotFound, format!("no {database} entry for {name}"))
                })
        };
        Ok((id("passwd", &self.user)?, id("group", &self.group)?))
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.user, self.group)
    }
}

/// The facts about a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathFacts {
    /// Directory, file or other.
    pub kind: Kind,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group; numeric ids where they have no name.
    pub owner: Owner,
    /// Time of last modification, since the Unix epoch.
    pub modified: Duration,
}

/// The type of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file with the SHA-256 of its contents and, when it is short and not secret, its text.
    File {
        /// Hexadecimal SHA-256.
        digest: String,
        /// The text, for a line-by-line difference.
        text: Option<String>,
    },
    /// A symbolic link, a socket, a device.
    Other,
}

/// Reads each path; paths that do not exist are absent from the result. The flag says whether a file's text may be read.
pub(crate) fn probe(paths: BTreeMap<PathBuf, bool>) -> Result<BTreeMap<PathBuf, PathFacts>, Error> {
    let mut names = Names::default();
    let mut facts = BTreeMap::new();
    for (path, show) in paths {
        match probe_one(&path, show, &mut names) {
            Ok(Some(found)) => drop(facts.insert(path, found)),
            Ok(None) => {}
            Err(source) => return Err(Error::Read { path, source }),
        }
    }
    Ok(facts)
}

fn probe_one(path: &Path, show: bool, names: &mut Names) -> io::Result<Option<PathFacts>> {
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
        // A file that only its owner can read may hold a secret now, even if its desired contents are no secret.
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

/// Names by numeric user and group id, each looked up once.
#[derive(Debug, Default)]
struct Names {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Names {
    fn user(&mut self, id: u32) -> String {
        self.users.entry(id).or_insert_with(|| name("passwd", id)).clone()
    }

    fn group(&mut self, id: u32) -> String {
        self.groups.entry(id).or_insert_with(|| name("group", id)).clone()
    }
}

fn name(database: &str, id: u32) -> String {
    run("getent", &[database, "--", &id.to_string()])
        .ok()
        .and_then(|line| line.split(':').next().map(str::to_owned))
        .unwrap_or_else(|| id.to_string())
}

/// The hexadecimal SHA-256 of `bytes`.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The differences in owner and mode; none for a path that does not exist, since it is created with them.
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

/// Sets owner, then mode: chown(2) clears the set-id bits.
pub(crate) fn set_attributes(path: &Path, owner: &Owner, mode: u32) -> io::Result<()> {
    let (user, group) = owner.ids()?;
    std::os::unix::fs::lchown(path, Some(user), Some(group))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Removes a file, a symbolic link, or a directory with its contents; a path that does not exist is no error.
///
/// # Errors
/// It cannot be removed.
pub fn remove(path: &Path) -> Result<(), Error> {
    let is_directory = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    match if is_directory { fs::remove_dir_all(path) } else { fs::remove_file(path) } {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(Error::change(path)),
    }
}

/// Drops the entries at and below each of `removed`.
pub(crate) fn forget<V>(entries: &mut BTreeMap<PathBuf, V>, removed: &[PathBuf]) {
    entries.retain(|path, _| !removed.iter().any(|it| path.starts_with(it)));
}
