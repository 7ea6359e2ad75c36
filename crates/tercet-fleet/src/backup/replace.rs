//! The database is replaced by a copy of it as it was at a time, on its own machine.
//!
//! The copy is made and verified beside the running database. Then PostgreSQL stops, the two data directories change
//! places, and it starts again. The old one stays until it is dropped, so the change can be undone.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};
use tercet_database::restored::{Expectation, Recovery, Server};
use tercet_database::{ControlData, RecoveryTarget, RestoredCluster};
use tercet_machine::cluster;
use tercet_machine::file::{Contents, File};
use tercet_machine::path::Owner;
use tokio::task::LocalSet;

use super::copy::{candidates, last_commit, recover};
use super::pgbackrest::PgBackRest;
use super::run::{self, open};
use super::settings::{CHECKS, Settings, data};
use super::units;
use crate::migrate::SOCKETS;
use crate::systemctl::systemctl;

/// Where a machine keeps how far a replacement is.
const FILE: &str = "/var/lib/tercet/replacement.json";
/// The folder of the copy, beside the data directory.
const COPY: &str = "tercet-restored";
/// The beginning of the names of folders with data before a replacement.
const BEFORE: &str = "main.before-";
/// How long the end of the write-ahead log may take to arrive in the archive.
const ARCHIVE: Duration = Duration::from_secs(60);

/// How far a replacement is, and what it left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// What the copy is.
    pub target: Replaced,
    /// How far it is.
    pub phase: Phase,
    /// The name of the folder with the data before it, beside the data directory.
    pub before: String,
    /// When it began: RFC 3339.
    pub since: Timestamp,
}

/// What the database is replaced by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replaced {
    /// The database as it was.
    By(RecoveryTarget),
    /// The database before the last replacement.
    ByTheOneBefore,
}

/// How far a replacement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The copy is verified; the database is as it was.
    Prepared,
    /// The data directories change places.
    Replacing,
    /// The database is the copy; the operations that follow are not complete.
    Replaced,
    /// The database is the copy, and all is complete.
    Done,
    /// The database is the copy, and the data before it is being recovered in the place of a copy.
    Returning,
}

impl Replacement {
    /// Reads it; `None` when nothing was ever replaced.
    pub(crate) fn read() -> Result<Option<Self>> {
        match fs::read(FILE) {
            Ok(text) => serde_json::from_slice(&text).map(Some).context(FILE),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context(FILE),
        }
    }

    fn write(&self) -> Result<()> {
        let contents = Contents::Text(serde_json::to_string_pretty(self)? + "\n");
        let file = File { path: FILE.into(), contents, owner: Owner::root(), mode: 0o600 };
        file.write().context(FILE)
    }

    /// Whether the data before a replacement is in the place of a copy, on its way back.
    pub(crate) fn is_on_its_way_back(&self) -> bool {
        match self.phase {
            Phase::Returning => true,
            Phase::Prepared | Phase::Replacing => self.target == Replaced::ByTheOneBefore,
            Phase::Replaced | Phase::Done => false,
        }
    }

    /// Whether the database before it can be returned to; `left` are the folders of data that replacements left.
    pub(crate) fn can_be_undone(&self, left: &[PathBuf]) -> bool {
        let is_kept = || left.iter().any(|path| path.ends_with(&self.before));
        match self.phase {
            Phase::Prepared => self.is_on_its_way_back(),
            _ => self.is_on_its_way_back() || is_kept(),
        }
    }

    /// Whether the database is replaced by this, and the operations that follow are not complete.
    pub(crate) fn is_incomplete(&self, target: &Replaced) -> bool {
        self.phase == Phase::Replaced && self.target == *target
    }

    /// The folder with the data before it.
    fn before(&self, settings: &Settings) -> PathBuf {
        parent(settings).join(&self.before)
    }
}

/// Makes and verifies the copy. One that is there for the same target is used.
///
/// # Errors
/// There is no room, the target cannot be reached, or the copy is damaged: the database is as it was.
pub(crate) fn prepare(target: &Replaced, say: &mut dyn FnMut(&str)) -> Result<()> {
    let settings = Settings::here()?;
    let there = Replacement::read()?;
    if let Some(there) = &there {
        match there.phase {
            // Begun anew once it is replaced, it would replace its own result, which an undo would then return to.
            Phase::Prepared | Phase::Replacing | Phase::Replaced if there.target == *target => return Ok(()),
            // The data before it can be brought back as soon as it has left its place.
            Phase::Replacing if *target == Replaced::ByTheOneBefore && there.before(&settings).exists() => {}
            Phase::Replacing => bail!(
                "a replacement is half done\nhint: run the same `tercet restore` again, which finishes it"
            ),
            _ => {}
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        match (target, there) {
            (Replaced::By(target), there) => {
                if let Some(there) = there.filter(Replacement::is_on_its_way_back) {
                    put_back(&settings, there).await?;
                }
                restore_verified(&settings, target, say).await
            }
            (Replaced::ByTheOneBefore, Some(there)) if there.phase != Phase::Prepared => {
                bring_back(&settings, there, say).await
            }
            (Replaced::ByTheOneBefore, _) => bail!("nothing was replaced"),
        }
    })?;
    let (before, since) = (format!("{BEFORE}{}", stamp()), Timestamp::now());
    Replacement { target: target.clone(), phase: Phase::Prepared, before, since }.write()
}

/// Restores a copy beside the database, recovers it to the target, and verifies it.
async fn restore_verified(
    settings: &Settings,
    target: &RecoveryTarget,
    say: &mut dyn FnMut(&str),
) -> Result<()> {
    let engine = PgBackRest { settings };
    let record = run::read(engine)?;
    let largest = candidates(&record, target)?.iter().map(|it| it.size).max().unwrap_or_default();
    room(settings, largest)?;
    let copy = open(settings, &folder(settings)).await?;
    let server = recover(engine, &record, &copy, target, say).await?;
    say(&format!("the copy is the database at {target}; {}", last_commit(&server)));
    verify(settings, server, &copy, say).await
}

/// Verifies a copy, which is removed if it is damaged.
async fn verify(
    settings: &Settings,
    server: Server<'_>,
    copy: &RestoredCluster,
    say: &mut dyn FnMut(&str),
) -> Result<()> {
    say("verify the copy");
    let expectation = Expectation {
        database: &settings.database,
        heartbeat: None,
        catalogue: None,
        checks: Path::new(CHECKS),
    };
    let verification = server.verify(&expectation).await;
    let failures = verification.failures().collect::<Vec<_>>().join("; ");
    if failures.is_empty() {
        return Ok(());
    }
    copy.clear()?;
    bail!(
        "the copy is damaged: {failures}\nhint: nothing was replaced; restore to an earlier time, or from an earlier backup"
    )
}

/// Makes the data before the last replacement a copy again: on a timeline of its own, so that a later recovery follows it.
/// The record says so before the data leaves its place.
async fn bring_back(settings: &Settings, mut there: Replacement, say: &mut dyn FnMut(&str)) -> Result<()> {
    let copy = open(settings, &folder(settings)).await?;
    there.phase = Phase::Returning;
    there.write()?;
    let before = there.before(settings);
    if before.exists() {
        copy.clear()?;
        fs::remove_dir(copy.data())?;
        fs::rename(&before, copy.data()).with_context(|| before.display().to_string())?;
    }
    let control = ControlData::read(copy.installation(), &copy.data())?;
    let engine = PgBackRest { settings };
    let recovery = Recovery {
        restore_command: engine.restore_command(),
        target: RecoveryTarget::Latest,
        timeline: Some(control.timeline),
        segments: Vec::new(),
    };
    let server = copy.start(Some(&recovery), "").await?;
    say(&format!("the data before the replacement; {}", last_commit(&server)));
    server.stop().await;
    Ok(())
}

/// Returns the data before a replacement from the place of a copy, where an interrupted undo left it: a copy is made there,
/// and the data stays until it is dropped.
async fn put_back(settings: &Settings, mut there: Replacement) -> Result<()> {
    let copy = open(settings, &folder(settings)).await?;
    let before = there.before(settings);
    if copy.data().exists() && !before.exists() {
        fs::rename(copy.data(), &before).with_context(|| copy.data().display().to_string())?;
        sync(&parent(settings))?;
    }
    there.phase = Phase::Done;
    there.write()
}

/// Has the data directories change places. Expects a prepared copy; repeated after an interruption, it goes on.
///
/// # Errors
/// PostgreSQL does not stop or start.
pub(crate) fn replace(target: &Replaced, say: &mut dyn FnMut(&str)) -> Result<()> {
    let settings = Settings::here()?;
    let mut replacement = Replacement::read()?.context("there is no copy")?;
    ensure!(replacement.target == *target, "the copy is another one\nhint: run `tercet restore` again");
    match replacement.phase {
        Phase::Replaced | Phase::Done => return Ok(()),
        Phase::Returning => bail!("the copy is not recovered yet"),
        Phase::Prepared => {
            archive_the_end(&settings, say);
            replacement.phase = Phase::Replacing;
            replacement.write()?;
        }
        Phase::Replacing => {}
    }
    say("stop PostgreSQL");
    systemctl(&["stop", "--", &unit(&settings)])?;
    change_places(&data(settings.major), &copy_data(&settings), &replacement.before(&settings))?;
    say("start PostgreSQL");
    systemctl(&["start", "--", &unit(&settings)])?;
    // The last heartbeat in the copy is as old as the target: the check of the backup that follows would call it lost. The unit
    // may not be there yet, and says itself why it fails.
    let _ = systemctl(&["start", "--", units::HEARTBEAT]);
    replacement.phase = Phase::Replaced;
    replacement.write()?;
    let folder = folder(&settings);
    fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())
}

/// Records that all operations that follow a replacement are complete.
///
/// # Errors
/// Nothing was replaced, or not yet.
pub(crate) fn complete() -> Result<()> {
    let there = Replacement::read()?.context("nothing was replaced")?;
    ensure!(matches!(there.phase, Phase::Replaced | Phase::Done), "the database is not replaced yet");
    Replacement { phase: Phase::Done, ..there }.write()
}

/// Has `main` become `before`, and `copy` become `main`. Repeated after an interruption, it goes on.
fn change_places(main: &Path, copy: &Path, before: &Path) -> Result<()> {
    if !copy.exists() {
        return Ok(());
    }
    // An interrupted replacement may have moved it away already.
    if main.exists() && !before.exists() {
        fs::rename(main, before).with_context(|| main.display().to_string())?;
    }
    history_is_ready(copy)?;
    fs::rename(copy, main).with_context(|| copy.display().to_string())?;
    main.parent().map_or(Ok(()), sync)
}

/// Stops PostgreSQL, after the end of its write-ahead log is in the archive. One that is stopped stays so.
///
/// # Errors
/// It does not stop, or its end does not arrive in the archive.
pub(crate) fn stop() -> Result<()> {
    let settings = Settings::here()?;
    if Path::new(SOCKETS).join(format!(".s.PGSQL.{}", settings.port)).exists() {
        archive(&settings)?;
    }
    // It does not come back at the next boot (pg_createcluster(1), "start.conf").
    let start = format!("/etc/postgresql/{}/main/start.conf", settings.major);
    fs::write(&start, "manual\n").with_context(|| start.clone())?;
    systemctl(&["stop", "--", &unit(&settings)]).map(drop)
}

/// The folders of data that replacements left, also where an interrupted undo left it.
pub(crate) fn left() -> Result<Vec<PathBuf>> {
    let Some(settings) = Settings::read()? else { return Ok(Vec::new()) };
    let entries = fs::read_dir(parent(&settings)).into_iter().flatten().flatten();
    let is_left = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(BEFORE);
    let returning = Replacement::read()?.filter(Replacement::is_on_its_way_back);
    let returning = returning.map(|_| copy_data(&settings)).filter(|path| path.exists());
    Ok(entries.filter(|it| is_left(&it.file_name())).map(|it| it.path()).chain(returning).collect())
}

/// Removes the data that replacements left, and a copy that was not used.
pub(crate) fn drop_before() -> Result<()> {
    let settings = Settings::here()?;
    if let Some(there) = Replacement::read()? {
        ensure!(
            there.phase != Phase::Replacing,
            "a replacement is half done\nhint: run the same `tercet restore` again"
        );
        fs::remove_file(FILE).context(FILE)?;
    }
    for before in left()? {
        fs::remove_dir_all(&before).with_context(|| before.display().to_string())?;
    }
    let folder = folder(&settings);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

/// Has what was committed until now archived, if PostgreSQL runs and archives.
///
/// # Errors
/// This machine has no part in the backups.
pub(crate) fn archive_until_now(say: &mut dyn FnMut(&str)) -> Result<()> {
    archive_the_end(&Settings::here()?, say);
    Ok(())
}

/// What has been committed until now is in the archive, too: the data that is replaced could be restored from it. A
/// PostgreSQL that does not run, or does not archive, delays nothing.
fn archive_the_end(settings: &Settings, say: &mut dyn FnMut(&str)) {
    if let Err(error) = archive(settings) {
        say(&format!(
            "what was committed last may not be in the archive: {error:#}; it is in the data that is kept"
        ));
    }
}

/// Ends the segment of the write-ahead log, and waits until it is in the archive.
fn archive(settings: &Settings) -> Result<()> {
    let segment = cluster::end_segment(settings.port)?;
    let begin = Instant::now();
    while cluster::last_archived(settings.port)?.get(..24).unwrap_or_default() < segment.as_str() {
        ensure!(
            begin.elapsed() < ARCHIVE,
            "segment {segment} is not archived within {} s",
            ARCHIVE.as_secs()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Has PostgreSQL archive the history of the copy's timeline, which was made while it did not archive. Without it, no
/// recovery from an earlier backup would follow the new timeline.
fn history_is_ready(copy: &Path) -> Result<()> {
    let wal = copy.join("pg_wal");
    let status = wal.join("archive_status");
    for entry in fs::read_dir(&wal).with_context(|| wal.display().to_string())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".history") && !status.join(format!("{name}.done")).exists() {
            let path = status.join(format!("{name}.ready"));
            let owner = fs::metadata(&status).with_context(|| status.display().to_string())?;
            fs::write(&path, "").with_context(|| path.display().to_string())?;
            std::os::unix::fs::chown(&path, Some(owner.uid()), Some(owner.gid()))?;
        }
    }
    Ok(())
}

/// Refuses a copy for which the disk has no room.
fn room(settings: &Settings, size: u64) -> Result<()> {
    let parent = parent(settings);
    let disk = statvfs(&parent).with_context(|| parent.display().to_string())?;
    let free = disk.f_bavail * disk.f_frsize;
    // The write-ahead log of the recovery, and room to start.
    let needed = size + size / 10 + (256 << 20);
    ensure!(
        free >= needed,
        "{} has {} MiB free, and the copy needs {} MiB beside the database, which stays until it is dropped\n\
         hint: make room, or `tercet restore --drop` if an earlier replacement left its data there",
        parent.display(),
        free >> 20,
        needed >> 20
    );
    Ok(())
}

/// The folder of the data directory.
fn parent(settings: &Settings) -> PathBuf {
    data(settings.major).parent().map(Path::to_owned).unwrap_or_default()
}

/// The data directory of the copy.
fn copy_data(settings: &Settings) -> PathBuf {
    folder(settings).join("data")
}

/// The folder of the copy.
fn folder(settings: &Settings) -> PathBuf {
    parent(settings).join(COPY)
}

/// The unit of PostgreSQL.
fn unit(settings: &Settings) -> String {
    format!("postgresql@{}-main.service", settings.major)
}

/// Now, in seconds, as part of a file's name.
fn stamp() -> String {
    Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string()
}

fn sync(folder: &Path) -> Result<()> {
    let synced = fs::File::open(folder).and_then(|it| it.sync_all());
    synced.with_context(|| folder.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_directories_change_places_whatever_was_done_before() {
        for done in 0..3 {
            let folder = tempfile::tempdir().unwrap();
            let [main, copy, before] = ["main", "copy", "main.before-1"].map(|name| folder.path().join(name));
            for (path, name) in [(&main, "old"), (&copy, "new")] {
                fs::create_dir_all(path.join("pg_wal/archive_status")).unwrap();
                fs::write(path.join("name"), name).unwrap();
            }
            fs::write(copy.join("pg_wal/00000002.history"), "").unwrap();
            // Interrupted after this many renames.
            if done > 0 {
                fs::rename(&main, &before).unwrap();
            }
            if done > 1 {
                history_is_ready(&copy).unwrap();
                fs::rename(&copy, &main).unwrap();
            }
            change_places(&main, &copy, &before).unwrap();
            let name = |path: &Path| fs::read_to_string(path.join("name")).unwrap();
            assert_eq!((name(&main), name(&before)), ("new".to_owned(), "old".to_owned()), "{done}");
            assert!(main.join("pg_wal/archive_status/00000002.history.ready").exists() && !copy.exists());
        }
    }

    #[test]
    fn an_interrupted_undo_can_be_repeated_at_any_point() {
        let before = "main.before-1".to_owned();
        let kept = [PathBuf::from("/var/lib/postgresql/15/main.before-1")];
        let check = |target: Replaced, phase, left: &[PathBuf]| {
            let replacement =
                Replacement { target, phase, before: before.clone(), since: Timestamp::UNIX_EPOCH };
            (replacement.can_be_undone(left), replacement.is_on_its_way_back())
        };
        let restored = || Replaced::By(RecoveryTarget::Latest);
        let undone = || Replaced::ByTheOneBefore;
        // Nothing was replaced yet, or what was replaced is kept, or was removed.
        assert_eq!(check(restored(), Phase::Prepared, &[]), (false, false));
        assert_eq!(check(restored(), Phase::Replacing, &kept), (true, false));
        assert_eq!(check(restored(), Phase::Done, &kept), (true, false));
        assert_eq!(check(restored(), Phase::Done, &[]), (false, false));
        // The data is on its way back.
        assert_eq!(check(restored(), Phase::Returning, &[]), (true, true));
        assert_eq!(check(undone(), Phase::Prepared, &[]), (true, true));
        assert_eq!(check(undone(), Phase::Replacing, &[]), (true, true));
        // It is back, and what it replaced can be returned to.
        assert_eq!(check(undone(), Phase::Replaced, &kept), (true, false));
        assert_eq!(check(undone(), Phase::Done, &kept), (true, false));
    }
}
