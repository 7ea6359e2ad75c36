//! The WAL archive of one cluster: plain files, which `cp` can restore.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tercet_database::Recovery;
use tercet_database::RecoveryTarget;
use tercet_database::wal::Segment;

use super::{listing, size_on_disk};

/// The unit of copying. A block of zeros is not written, so that a segment that was switched early needs little room.
const BLOCK: usize = 64 << 10;
/// The file with the timeline that the cluster continued on after a restore.
const TIMELINE: &str = "timeline";

/// The folder of an archive.
#[derive(Debug)]
pub(crate) struct Archive {
    folder: PathBuf,
}

impl Archive {
    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The bytes that it uses on disk.
    pub(crate) fn bytes(&self) -> anyhow::Result<u64> {
        size_on_disk(&self.folder)
    }

    /// Whether a file is in it.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.folder.join(name).exists()
    }

    /// The `archive_command` of the server on `data`. Without the folder, which the first backup creates, WAL is not kept. The
    /// path is relative to the data directory where that is beside the backups, so that a renamed project keeps archiving.
    pub(crate) fn command(&self, data: &Path) -> anyhow::Result<String> {
        let state = self.folder.ancestors().nth(3).context("the archive is in the private folder")?;
        let folder = match (data.parent().and_then(Path::parent), self.folder.strip_prefix(state)) {
            (Some(parent), Ok(inner)) if parent == state => Path::new("../..").join(inner),
            _ => self.folder.clone(),
        };
        let (folder, program) = (shell(&folder)?, shell(&crate::supervisor::this_executable()?)?);
        Ok(format!("test ! -d {folder} || exec {program} archive %p {folder}/%f"))
    }

    /// The recovery of a backup from this archive. `data` is the data directory of a live cluster that is stopped: its WAL
    /// continues the archive.
    pub(crate) fn recovery(
        &self,
        target: RecoveryTarget,
        timeline: Option<u32>,
        data: Option<&Path>,
    ) -> anyhow::Result<Recovery> {
        let archive = shell(&self.folder)?;
        let mut segments = self.segments()?;
        // With a status above 128, PostgreSQL does not take a failed copy for the end of the archive.
        let copy = |folder: &str| format!("test -f {folder}/%f; then cp {folder}/%f %p || exit 255;");
        let mut restore_command = format!("if {}", copy(&archive));
        if let Some(data) = data {
            let wal = data.join("pg_wal");
            restore_command.push_str(&format!(" elif {}", copy(&shell(&wal)?)));
            segments.extend(complete_segments(&wal)?);
        }
        restore_command.push_str(" else exit 1; fi");
        Ok(Recovery { restore_command, target, timeline, segments })
    }

    fn segments(&self) -> anyhow::Result<Vec<Segment>> {
        Ok(listing(&self.folder)?
            .iter()
            .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
            .collect())
    }

    /// Whether the end of a backup, a location on a timeline, is in the history of `live`, the timeline of the live cluster
    /// (PostgreSQL manual, section 26.3.5, "Timelines").
    pub(crate) fn is_in_history(&self, live: u32, timeline: u32, location: &str) -> anyhow::Result<bool> {
        if timeline == live {
            return Ok(true);
        }
        let path = self.folder.join(format!("{live:08X}.history"));
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        Ok(history(&text).any(|(ancestor, end)| ancestor == timeline && position(location) <= Some(end)))
    }

    /// The timeline that the cluster continued on after the last restore; `None` if there was none.
    pub(crate) fn timeline(&self) -> Option<u32> {
        fs::read_to_string(self.folder.join(TIMELINE)).ok()?.trim().parse().ok()
    }

    /// Records the timeline that the cluster continues on, for a restore after the cluster was lost: the latest timeline in the
    /// archive may be of a restore that was undone.
    pub(crate) fn continue_on(&self, timeline: u32) -> anyhow::Result<()> {
        let path = self.folder.join(TIMELINE);
        let partial = path.with_extension("new");
        let written = fs::write(&partial, format!("{timeline}\n")).and_then(|()| fs::rename(&partial, &path));
        written.with_context(|| path.display().to_string())
    }

    /// Copies the timeline history files of a data directory, which a recovery needs before the server archives them.
    pub(crate) fn take_histories(&self, data: &Path) -> anyhow::Result<()> {
        for path in listing(&data.join("pg_wal"))? {
            if let Some(name) =
                path.file_name().filter(|_| path.extension().is_some_and(|end| end == "history"))
            {
                copy(&path, &self.folder.join(name))?;
            }
        }
        Ok(())
    }
}

/// The segments of a folder `pg_wal` that are complete: their archive status is known.
fn complete_segments(wal: &Path) -> anyhow::Result<Vec<Segment>> {
    let names = listing(&wal.join("archive_status"))?;
    Ok(names.iter().filter_map(|path| path.file_stem()?.to_str()?.parse().ok()).collect())
}

/// The lines of a timeline history file: each ancestor and the position at which it was left.
fn history(text: &str) -> impl Iterator<Item = (u32, u64)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, position(words.next()?)?))
    })
}

/// A location like `0/3000110` as a number.
fn position(location: &str) -> Option<u64> {
    let (high, low) = location.split_once('/')?;
    Some(u64::from_str_radix(high, 16).ok()? << 32 | u64::from_str_radix(low, 16).ok()?)
}

/// A path as a word of a shell command in which PostgreSQL replaces `%p` and `%f`.
fn shell(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    if text.contains('\n') {
        bail!("{text:?} has a line break");
    }
    Ok(format!("'{}'", text.replace('\'', r"'\''").replace('%', "%%")))
}

/// Copies a file of WAL to its path in the archive. Repeating it is harmless; a file with other content is never replaced.
///
/// # Errors
/// A file cannot be read or written, or the archive has one of this name with other content.
pub(crate) fn copy(file: &Path, target: &Path) -> anyhow::Result<()> {
    let content = fs::read(file).with_context(|| file.display().to_string())?;
    let named = || target.display().to_string();
    match fs::read(target) {
        Ok(there) if there == content => return Ok(()),
        Ok(_) => {
            bail!("{} is in the archive with other content; another cluster archives there", target.display())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(named),
    }
    let folder = target.parent().context("a file of the archive is in a folder")?;
    let partial =
        folder.join(format!("{}.partial-copy", target.file_name().unwrap_or_default().to_string_lossy()));
    let written = write_sparse(&partial, &content)
        .and_then(|()| fs::rename(&partial, target))
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        // Without room for the copy, its beginning takes none either.
        let _ = fs::remove_file(&partial);
    }
    written.with_context(named)
}

fn write_sparse(path: &Path, content: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    for (index, block) in content.chunks(BLOCK).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start((index * BLOCK) as u64))?;
            file.write_all(block)?;
        }
    }
    file.set_len(content.len() as u64)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_archived_once_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (file, target) = (folder.path().join("segment"), folder.path().join("000000010000000000000001"));
        let mut content = vec![0; 4 * BLOCK + 7];
        content[BLOCK + 3] = 1;
        fs::write(&file, &content).unwrap();
        copy(&file, &target).unwrap();
        copy(&file, &target).unwrap();
        assert_eq!(fs::read(&target).unwrap(), content);
        content[0] = 1;
        fs::write(&file, &content).unwrap();
        assert!(copy(&file, &target).unwrap_err().to_string().contains("with other content"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn the_command_keeps_working_in_a_renamed_folder_with_any_name() {
        let archive = Archive::at(PathBuf::from("/a's %p/.tercet/backups/wal/7"));
        let beside = archive.command(Path::new("/a's %p/.tercet/postgresql/data")).unwrap();
        assert!(beside.starts_with("test ! -d '../../backups/wal/7' || exec '/"), "{beside}");
        let elsewhere = archive.command(Path::new("/var/lib/tercet/a/data")).unwrap();
        assert!(elsewhere.starts_with(r"test ! -d '/a'\''s %%p/.tercet/backups/wal/7' ||"), "{elsewhere}");
    }

    #[test]
    fn a_backup_is_usable_if_its_end_is_in_the_history_of_the_timeline() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("00000003.history"), "1\t0/5000000\tbefore 2026-11-29\n").unwrap();
        let archive = Archive::at(folder.path().to_owned());
        let check = |timeline, location| archive.is_in_history(3, timeline, location).unwrap();
        assert!(check(3, "0/9000000") && check(1, "0/4FFFFFF"));
        assert!(!check(1, "0/5000001") && !check(2, "0/4000000"));
    }
}
