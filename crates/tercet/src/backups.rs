//! The backups of the private PostgreSQL of `tercet up`.
//!
//! ```text
//! .tercet/backups/
//!   lock                 locked by the command that makes, checks or restores a backup
//!   20261129-213000/     a backup; one that is being made is called ID.partial
//!     backup.json        what it is
//!     base.tar.gz  pg_wal.tar.gz  backup_manifest     from pg_basebackup
//!     checks.jsonl       the result of each check
//!   wal/SYSTEM-ID/       the WAL archive of the cluster with this system identifier
//! ```

pub(crate) mod archive;
pub(crate) mod copy;
pub(crate) mod replacement;

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tercet_database::restored::Verification;
use tercet_database::{Cluster, ControlData, Installation, RecoveryTarget};

pub(crate) use self::archive::Archive;
pub(crate) use self::copy::Copy;

/// The file that says what a backup is.
const RECORD: &str = "backup.json";
/// The file with the results of the checks.
const CHECKS: &str = "checks.jsonl";
/// The end of the name of a folder whose backup is incomplete.
const PARTIAL: &str = ".partial";
/// The most attempts to remove a folder, and the time between two.
const REMOVALS: u32 = 100;
const REMOVAL_INTERVAL: Duration = Duration::from_millis(20);

/// The folder of the backups.
#[derive(Debug)]
pub(crate) struct Backups {
    folder: PathBuf,
}

/// What a backup is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Backup {
    pub(crate) id: String,
    /// Always `full`.
    pub(crate) kind: String,
    pub(crate) began: Timestamp,
    /// The earliest time that it can be recovered to.
    pub(crate) ended: Timestamp,
    pub(crate) system_identifier: String,
    /// The major version of PostgreSQL.
    pub(crate) major: u32,
    /// The timeline and location of the end of the backup.
    pub(crate) timeline: u32,
    pub(crate) end_location: String,
    /// The size of the data directory in bytes.
    pub(crate) data_bytes: u64,
    /// `shared_preload_libraries` of the server.
    pub(crate) preload_libraries: String,
}

/// The history of a cluster: it and its timeline, which is the latest in the archive if it is `None`.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) system_identifier: String,
    pub(crate) timeline: Option<u32>,
}

/// A folder of a backup.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) folder: PathBuf,
    /// What the backup is, or why that cannot be read.
    pub(crate) backup: Result<Backup, String>,
    /// Its size on disk in bytes.
    pub(crate) bytes: u64,
    /// The result of the last check.
    pub(crate) checked: Option<Verification>,
}

impl Backups {
    /// The backups in a project's private folder.
    pub(crate) fn of(private: &Path) -> Self {
        Self { folder: private.join("backups") }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Creates the folder, and locks it until the file is closed.
    ///
    /// # Errors
    /// Another process makes, checks or restores a backup.
    pub(crate) fn lock(&self) -> anyhow::Result<File> {
        create(&self.folder)?;
        let path = self.folder.join("lock");
        let named = || path.display().to_string();
        let file = File::options().create(true).append(true).open(&path).with_context(named)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => {
                bail!(
                    "another tercet command makes, checks or restores a backup here; hint: wait for it, or end it"
                )
            }
            Err(fs::TryLockError::Error(error)) => Err(error).with_context(named),
        }
    }

    /// The archive of the cluster with this system identifier.
    pub(crate) fn archive(&self, system_identifier: &str) -> Archive {
        Archive::at(self.folder.join("wal").join(system_identifier))
    }

    /// The system identifiers of the clusters that have an archive.
    pub(crate) fn archived_systems(&self) -> anyhow::Result<Vec<String>> {
        let folders = listing(&self.folder.join("wal"))?;
        let names = folders.iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
        Ok(names.collect())
    }

    /// The `archive_command` of the project's cluster.
    pub(crate) fn archive_command(
        &self,
        cluster: &Cluster,
        installation: &Installation,
    ) -> anyhow::Result<String> {
        let data = cluster.data();
        let control = ControlData::read(installation, &data).with_context(|| data.display().to_string())?;
        self.archive(&control.system_identifier).command(&data)
    }

    /// The backups, the oldest first.
    pub(crate) fn all(&self) -> anyhow::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in listing(&self.folder)? {
            let id = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if id.as_bytes().first().is_some_and(u8::is_ascii_digit)
                && !id.ends_with(PARTIAL)
                && entry.is_dir()
            {
                entries.push(Entry::read(id, entry)?);
            }
        }
        entries.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(entries)
    }

    /// The backup with this id, or the `latest`.
    pub(crate) fn find(&self, id: &str) -> anyhow::Result<Option<Entry>> {
        Ok(self.all()?.into_iter().rev().find(|entry| id == "latest" || entry.id == id))
    }

    /// The history of the newest backup's cluster, for a restore after that was lost; `None` if there is no backup.
    pub(crate) fn last_history(&self) -> anyhow::Result<Option<History>> {
        let newest = self.all()?.into_iter().rev().find_map(|entry| entry.backup.ok());
        Ok(newest.map(|backup| {
            let timeline = self.archive(&backup.system_identifier).timeline();
            History { timeline, system_identifier: backup.system_identifier }
        }))
    }

    /// The newest backup from which the target can be reached in this history.
    ///
    /// # Errors
    /// There is none; the error says from when on there is one.
    pub(crate) fn reaching(
        &self,
        target: &RecoveryTarget,
        history: Option<&History>,
    ) -> anyhow::Result<(Entry, Backup)> {
        let all = self.all()?;
        let mut usable = Vec::new();
        let damaged = all.iter().filter(|entry| entry.backup.is_err()).count();
        for entry in all {
            let (Ok(backup), Some(history)) = (entry.backup.clone(), history) else { continue };
            let archive = self.archive(&backup.system_identifier);
            let reachable = history.timeline.map_or(Ok(true), |timeline| {
                archive.is_in_history(timeline, backup.timeline, &backup.end_location)
            });
            if backup.system_identifier == history.system_identifier && reachable? {
                usable.push((entry, backup));
            }
        }
        let oldest = usable.first().map(|(_, backup)| backup.ended);
        let found = usable.into_iter().rev().find(|(_, backup)| match target {
            RecoveryTarget::Time(time) => backup.ended <= *time,
            RecoveryTarget::Latest | RecoveryTarget::BeforeRelease(_) => true,
        });
        match (found, oldest) {
            (Some(found), _) => Ok(found),
            (None, Some(oldest)) => bail!("no backup reaches {target}: the oldest goes back to {oldest}"),
            (None, None) if damaged > 0 => {
                bail!("{damaged} backups, and none is readable; hint: tercet backup list")
            }
            (None, None) => {
                bail!("there is no backup of this database in {}; hint: tercet backup", self.folder.display())
            }
        }
    }

    /// Removes what a killed command left: incomplete backups and the copy of a check.
    pub(crate) fn clean(&self) -> anyhow::Result<()> {
        for path in listing(&self.folder)? {
            if path.to_string_lossy().ends_with(PARTIAL) {
                fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
            }
        }
        remove_folder(&self.check_folder())
    }

    /// The folder that a backup is made in.
    pub(crate) fn partial(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{id}{PARTIAL}"))
    }

    /// The folder of the copy that is restored by a check.
    pub(crate) fn check_folder(&self) -> PathBuf {
        self.folder.join("check")
    }

    /// The folder of the copy that is restored beside the database.
    pub(crate) fn restored_folder(&self) -> PathBuf {
        self.folder.join("restored")
    }

    /// Completes the backup in its partial folder: from now on it is listed.
    pub(crate) fn complete(&self, backup: &Backup) -> anyhow::Result<Entry> {
        let (partial, folder) = (self.partial(&backup.id), self.folder.join(&backup.id));
        let path = partial.join(RECORD);
        let named = || path.display().to_string();
        let mut file = File::create(&path).with_context(named)?;
        file.write_all(serde_json::to_string_pretty(backup)?.as_bytes()).with_context(named)?;
        file.sync_all().with_context(named)?;
        fs::rename(&partial, &folder).with_context(|| folder.display().to_string())?;
        File::open(&self.folder).and_then(|folder| folder.sync_all()).with_context(named)?;
        Entry::read(backup.id.clone(), folder)
    }
}

impl Entry {
    fn read(id: String, folder: PathBuf) -> anyhow::Result<Self> {
        let path = folder.join(RECORD);
        let backup = fs::read_to_string(&path)
            .map_err(|error| format!("{RECORD}: {error}"))
            .and_then(|text| serde_json::from_str(&text).map_err(|error| format!("{RECORD}: {error}")));
        let checks = fs::read_to_string(folder.join(CHECKS)).unwrap_or_default();
        // A killed check may have left a part of a line.
        let checked = checks.lines().rev().find_map(|line| serde_json::from_str(line).ok());
        let bytes = size_on_disk(&folder)?;
        Ok(Self { id, folder, backup, bytes, checked })
    }

    /// Appends the result of a check.
    pub(crate) fn record(&self, verification: &Verification) -> anyhow::Result<()> {
        let path = self.folder.join(CHECKS);
        let named = || path.display().to_string();
        let mut file = File::options().create(true).append(true).open(&path).with_context(named)?;
        writeln!(file, "{}", serde_json::to_string(verification)?).with_context(named)
    }
}

/// Creates a folder that only this user can enter, and its parents.
pub(crate) fn create(folder: &Path) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(|| folder.display().to_string())
}

/// Removes a folder with its content; one that is missing is no error. Processes of a killed server may still write into it.
pub(crate) fn remove_folder(folder: &Path) -> anyhow::Result<()> {
    for _ in 0..REMOVALS {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                std::thread::sleep(REMOVAL_INTERVAL);
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| folder.display().to_string());
            }
            _ => return Ok(()),
        }
    }
    bail!("{} cannot be removed: a process still writes into it", folder.display())
}

/// The paths in a folder; none if it is missing.
fn listing(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let named = || folder.display().to_string();
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry.with_context(named)?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(named),
    }
}

/// The bytes that the files of a folder use on disk.
pub(crate) fn size_on_disk(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for path in listing(folder)? {
        let metadata = fs::symlink_metadata(&path).with_context(|| path.display().to_string())?;
        bytes += if metadata.is_dir() { size_on_disk(&path)? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

/// Fails unless the file system of `folder` has room for `bytes` and a tenth more.
pub(crate) fn need_room(folder: &Path, bytes: u64) -> anyhow::Result<()> {
    let system = rustix::fs::statvfs(folder).with_context(|| folder.display().to_string())?;
    let free = system.f_bavail * system.f_frsize;
    if free < bytes + bytes / 10 {
        bail!("{}: {} are needed, and {} are free", folder.display(), Size(bytes + bytes / 10), Size(free));
    }
    Ok(())
}

/// A number of bytes, for people.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut unit = "B";
        for larger in ["kB", "MB", "GB", "TB"] {
            if value < 1000.0 {
                break;
            }
            value /= 1000.0;
            unit = larger;
        }
        let digits = usize::from(unit != "B" && value < 10.0);
        f.pad(&format!("{value:.digits$} {unit}"))
    }
}
