//! What tercet made on a machine: recorded before it is made, so that all of it can be taken away again.
//!
//! The record follows from every [`Desired`] that a machine was ever brought to: what is made without being recorded does
//! not compile. Packages are no part of it: they stay installed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cluster;
use crate::desired::Desired;
use crate::execute::remove;
use crate::facts::{Facts, is_unit_file};
use crate::file::{Contents, File};
use crate::step::{Change, Step};
use crate::sysctl::{self, Sysctl};
use crate::unit::{Goal, Unit, UnitFacts};
use crate::user;

/// How the text of a file begins that tercet wrote over another.
const HEADER: &str = "# Written by tercet";

/// What was made, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inventory {
    /// System users.
    pub users: BTreeMap<String, Before>,
    /// Directories.
    pub directories: BTreeMap<PathBuf, Before>,
    /// Files.
    pub files: BTreeMap<PathBuf, Before>,
    /// Kernel parameters, and their values before.
    pub sysctls: BTreeMap<String, Option<String>>,
    /// Units, and the files they read. One whose own file is not among [`files`](Self::files) is the system's.
    pub units: BTreeMap<String, BTreeSet<PathBuf>>,
    /// Whether there is a firewall of ours.
    pub firewall: bool,
    /// The port of the PostgreSQL cluster that was configured.
    pub cluster: Option<u16>,
}

/// What was there before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    /// Nothing.
    Absent,
    /// The same, made by somebody else: it stays.
    Present,
    /// Another file; here is a copy of it.
    Kept(PathBuf),
}

impl Inventory {
    /// All that bringing a machine to `desired` makes, as on a machine where nothing of it was there before.
    pub fn of(desired: &Desired) -> Self {
        // A new kind of resource has to be named here.
        let Desired {
            packages: _,
            users,
            directories,
            files,
            absent: _,
            sysctls,
            firewall,
            units,
            cluster,
            retired: _,
        } = desired;
        let boot = (!sysctls.is_empty()).then(|| sysctl::boot_file(sysctls));
        let made = units.iter().filter(|unit| unit.goal != Goal::Absent);
        Self {
            users: users.iter().map(|user| (user.0.clone(), Before::Absent)).collect(),
            directories: directories.iter().map(|it| (it.path.clone(), Before::Absent)).collect(),
            files: files.iter().chain(&boot).map(|file| (file.path.clone(), Before::Absent)).collect(),
            sysctls: sysctls.iter().map(|sysctl| (sysctl.key.clone(), None)).collect(),
            units: made
                .map(|unit| {
                    let reads = unit.restart_when.iter().chain(&unit.reload_when).cloned();
                    let is_ours = files.iter().any(|file| file.path == unit.file());
                    (unit.name.clone(), reads.filter(|_| !is_ours).collect())
                })
                .collect(),
            firewall: firewall.is_some(),
            cluster: cluster.as_ref().map(|cluster| cluster.port),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is here and not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        fn less<K: Ord + Clone, A: Clone, B>(all: &BTreeMap<K, A>, less: &BTreeMap<K, B>) -> BTreeMap<K, A> {
            all.iter()
                .filter(|(key, _)| !less.contains_key(key))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect()
        }
        Self {
            users: less(&self.users, &other.users),
            directories: less(&self.directories, &other.directories),
            files: less(&self.files, &other.files),
            sysctls: less(&self.sysctls, &other.sysctls),
            units: less(&self.units, &other.units),
            firewall: self.firewall && !other.firewall,
            cluster: self.cluster.filter(|_| other.cluster.is_none()),
        }
    }

    /// Those of its units that are `wanted`, with their files, and nothing else.
    #[must_use]
    pub fn units_only(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let units: BTreeMap<_, _> =
            self.units.iter().filter(|(name, _)| wanted(name) && self.is_ours(name)).collect();
        let files = units.keys().map(|name| unit_path(name));
        Self {
            files: files.map(|path| (path, Before::Absent)).collect(),
            units: units.into_iter().map(|(name, reads)| (name.clone(), reads.clone())).collect(),
            ..Self::default()
        }
    }

    /// Whether a unit's file was made by us.
    fn is_ours(&self, unit: &str) -> bool {
        self.files.contains_key(&unit_path(unit))
    }

    /// The paths whose facts [`steps`](Self::steps) needs.
    pub(crate) fn paths(&self) -> BTreeSet<PathBuf> {
        let reads = self.units.values().flatten().filter_map(|path| path.parent()).map(Path::to_owned);
        let copies = self.files.values().filter_map(|before| match before {
            Before::Kept(copy) => Some(copy.clone()),
            _ => None,
        });
        self.files.keys().chain(self.directories.keys()).cloned().chain(reads).chain(copies).collect()
    }

    /// The steps that take all of it away but the firewall: units first, then what they read.
    pub(crate) fn steps(&self, facts: &Facts) -> Vec<Step> {
        let mut steps = Vec::new();
        let unknown = UnitFacts::default();
        let unit_facts = |name: &str| facts.units.get(name).unwrap_or(&unknown);
        for name in self.units.keys().filter(|name| self.is_ours(name)) {
            let unit = Unit {
                name: name.clone(),
                enabled: None,
                goal: Goal::Absent,
                restart_when: Vec::new(),
                reload_when: Vec::new(),
            };
            steps.extend(unit.steps(unit_facts(name), &facts.paths, &BTreeSet::new()));
        }
        let is_there = |path: &Path| facts.paths.contains_key(path);
        let mut gone: BTreeSet<&Path> = BTreeSet::new();
        let units: BTreeSet<PathBuf> = self.units.keys().map(|name| unit_path(name)).collect();
        for (path, before) in self.files.iter().filter(|(path, _)| !units.contains(*path)) {
            let step = match before {
                Before::Kept(copy) if is_there(copy) => {
                    Step::RestoreFile { path: path.clone(), copy: copy.clone() }
                }
                Before::Absent => match cluster::distributed(path) {
                    Some(file) => {
                        let changes = file.changes(&facts.paths);
                        if changes.is_empty() {
                            continue;
                        }
                        Step::WriteFile { file, changes }
                    }
                    None if is_there(path) => Step::Remove { path: path.clone() },
                    None => continue,
                },
                Before::Present | Before::Kept(_) => continue,
            };
            steps.push(step);
            gone.insert(path);
        }
        // The deepest first.
        let made = self.directories.iter().rev().filter(|(_, before)| **before == Before::Absent);
        for (path, _) in made.filter(|(path, _)| is_there(path)) {
            steps.push(Step::RemoveDirectory { path: path.clone() });
        }
        if gone.iter().any(|path| is_unit_file(path)) {
            steps.push(Step::ReloadSystemd);
        }
        for (name, reads) in self.units.iter().filter(|(name, _)| !self.is_ours(name)) {
            let unit = unit_facts(name);
            // What was taken away after it started, by an earlier run that was killed, changed its folder.
            let is_newer = |path: &PathBuf| {
                gone.contains(path.as_path())
                    || path
                        .parent()
                        .and_then(|folder| facts.paths.get(folder))
                        .is_some_and(|folder| folder.modified > unit.started)
            };
            if unit.active == "active" && reads.iter().any(is_newer) {
                let why = "its configuration is the machine's own again".to_owned();
                steps.push(Step::RestartUnit { name: name.clone(), why });
            }
        }
        for (key, before) in &self.sysctls {
            let value = facts.sysctls.get(key);
            if let Some(before) = before.as_ref().filter(|before| value.is_some_and(|value| value != *before))
            {
                let changes = vec![Change::new("value", value.cloned().unwrap_or_default(), before.clone())];
                let sysctl = Sysctl { key: key.clone(), value: before.clone() };
                steps.push(Step::SetSysctl { sysctl, changes });
            }
        }
        let users = self
            .users
            .iter()
            .filter(|(name, before)| **before == Before::Absent && facts.users.contains(name.as_str()));
        steps.extend(users.map(|(name, _)| Step::RemoveUser { name: name.clone() }));
        steps
    }

    /// Drops what is below `path`.
    fn drop_below(&mut self, path: &Path) {
        self.files.retain(|it, _| !it.starts_with(path));
        self.directories.retain(|it, _| !it.starts_with(path));
    }
}

fn unit_path(name: &str) -> PathBuf {
    Path::new("/etc/systemd/system").join(name)
}

/// The record, as it is kept in `folder`; empty where nothing was made yet.
///
/// # Errors
/// It cannot be read.
pub fn read(folder: &Path) -> io::Result<Inventory> {
    match fs::read(folder.join("inventory.json")) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Inventory::default()),
        Err(error) => Err(error),
    }
}

fn write(folder: &Path, inventory: &Inventory) -> io::Result<()> {
    use io::Write as _;
    fs::create_dir_all(folder)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(&serde_json::to_vec_pretty(inventory)?)?;
    new.as_file().sync_all()?;
    new.persist(folder.join("inventory.json")).map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()
}

/// Records in `folder` what bringing this machine to `desired` makes, before it is made; a file that will be written
/// over is copied first.
///
/// # Errors
/// The record or a copy cannot be written.
pub fn record(folder: &Path, desired: &Desired) -> io::Result<()> {
    let known = read(folder)?;
    let mut all = known.clone();
    let wanted = Inventory::of(desired);
    for (name, _) in wanted.without(&known).users {
        let there = user::exists(&name).map_err(io::Error::other)? && !is_named_by_us(Path::new(&name));
        all.users.insert(name, if there { Before::Present } else { Before::Absent });
    }
    for (path, _) in wanted.without(&known).directories {
        let there = path.exists() && !is_named_by_us(&path);
        all.directories.insert(path, if there { Before::Present } else { Before::Absent });
    }
    let boot = (!desired.sysctls.is_empty()).then(|| sysctl::boot_file(&desired.sysctls));
    for file in desired.files.iter().chain(&boot).filter(|file| !known.files.contains_key(&file.path)) {
        all.files.insert(file.path.clone(), keep(folder, file)?);
    }
    let values = sysctl::probe(&desired.sysctls).map_err(io::Error::other)?;
    for (key, _) in wanted.without(&known).sysctls {
        let value = values.get(&key).cloned();
        all.sysctls.insert(key, value);
    }
    for (name, reads) in wanted.units {
        all.units.entry(name).or_default().extend(reads);
    }
    all.firewall |= wanted.firewall;
    all.cluster = wanted.cluster.or(all.cluster);
    if all == known { Ok(()) } else { write(folder, &all) }
}

/// Forgets in `folder` what bringing this machine to `desired` took away.
///
/// # Errors
/// The record cannot be written.
pub fn forget(folder: &Path, desired: &Desired) -> io::Result<()> {
    let known = read(folder)?;
    let mut left = known.without(&desired.retired);
    for unit in desired.units.iter().filter(|unit| unit.goal == Goal::Absent) {
        left.units.remove(&unit.name);
        left.drop_below(&unit.file());
    }
    for path in &desired.absent {
        left.drop_below(path);
    }
    if left == known { Ok(()) } else { write(folder, &left) }
}

/// Whether a path's name says that it is ours, whoever made it.
fn is_named_by_us(path: &Path) -> bool {
    path.to_string_lossy().contains("tercet")
}

/// What is at the place of a file that is about to be written; a copy is kept of what is not ours.
fn keep(folder: &Path, file: &File) -> io::Result<Before> {
    let path = &file.path;
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() && !is_named_by_us(path) => metadata,
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => return Ok(Before::Absent),
    };
    let contents = fs::read(path)?;
    let wanted = match &file.contents {
        Contents::Text(text) => text.as_str(),
        Contents::Secret(secret) => secret.reveal(),
    };
    if contents.starts_with(HEADER.as_bytes()) || contents == wanted.as_bytes() {
        return Ok(Before::Absent);
    }
    let copies = folder.join("originals");
    let copy = copies.join(path.strip_prefix("/").unwrap_or(path));
    let parent = copy.parent().unwrap_or(&copies);
    fs::create_dir_all(folder)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    fs::write(&copy, &contents)?;
    std::os::unix::fs::lchown(&copy, Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    fs::File::open(&copy)?.sync_all()?;
    Ok(Before::Kept(copy))
}

/// Puts a file back from its copy, which is then gone.
pub(crate) fn restore(path: &Path, copy: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let metadata = fs::metadata(copy)?;
    let new = tempfile::Builder::new().prefix(".tercet-").tempfile_in(folder)?;
    fs::write(new.path(), fs::read(copy)?)?;
    std::os::unix::fs::lchown(new.path(), Some(metadata.uid()), Some(metadata.gid()))?;
    fs::set_permissions(new.path(), fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    new.as_file().sync_all()?;
    new.persist(path).map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()?;
    fs::remove_file(copy)
}

/// Removes a directory that was made: one that is named by us with all that is in it, another only when it is empty.
pub(crate) fn remove_directory(path: &Path) -> io::Result<()> {
    if is_named_by_us(path) {
        return remove(path);
    }
    match fs::remove_dir(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Ok(())
        }
        removed => removed,
    }
}
