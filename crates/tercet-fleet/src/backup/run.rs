//! The tasks on the machine that makes the backups: to make one, and to check one.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use tercet_database::account::Login;
use tercet_database::catalogue::Catalogue;
use tercet_database::restored::{
    Check, Expectation, Finding, Recovery, RestoredCluster, Server, Verification,
};
use tercet_database::{Account, Installation, RecoveryTarget};
use tercet_postgres::Connection;
use tokio::task::LocalSet;

use super::metrics;
use super::pgbackrest::PgBackRest;
use super::record::{Backup, Failure, Record};
use super::retention;
use super::settings::{ACCOUNT, CHECKS, Settings, in_folder};

/// The greatest age of the heartbeat in a restored copy: PostgreSQL's `archive_timeout`, and two beats.
const GREATEST_LOSS: Duration = Duration::from_secs(120);
/// The name of the newest backup.
pub(crate) const LATEST: &str = "latest";

/// Makes a backup, after those that are not to be kept are removed.
///
/// # Errors
/// It failed, or copied damaged pages; the record says so, too.
pub(crate) fn back_up(full: bool, say: &mut dyn FnMut(&str)) -> Result<()> {
    let settings = Settings::here()?;
    let _alone = alone(say)?;
    let engine = PgBackRest { settings: &settings };
    let mut record = read(engine)?;
    let made = make(engine, &mut record, full, say);
    record.failure =
        made.as_ref().err().map(|error| Failure { at: Timestamp::now(), why: format!("{error:#}") });
    save(&record)?;
    let backup = made?;
    say(&format!(
        "{} backup {}: {} MiB of the database, {} MiB stored",
        backup.kind,
        backup.id,
        backup.size >> 20,
        backup.stored >> 20
    ));
    Ok(())
}

/// Waits until no other backup or check runs on this machine: two backups exclude each other, and what a check restores must
/// not expire meanwhile. The end of the process releases it.
fn alone(say: &mut dyn FnMut(&str)) -> Result<File> {
    let path = in_folder("task.lock");
    let named = || path.display().to_string();
    let file = File::options().create(true).append(true).open(&path).with_context(named)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            say("wait for another backup or check to end");
            file.lock().with_context(named)?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(named),
    }
    Ok(file)
}

fn make(
    engine: PgBackRest<'_>,
    record: &mut Record,
    full: bool,
    say: &mut dyn FnMut(&str),
) -> Result<Backup> {
    if !record.backups.is_empty() {
        let count = retention::full_backups(record, engine.settings.keep_days, Timestamp::now());
        engine.expire(count)?;
    }
    engine.back_up(full, say)?;
    *record = Record { checks: record.checks.clone(), ..read(engine)? };
    let backup = record.latest().context("the repository has no backup")?.clone();
    ensure!(
        !backup.is_damaged,
        "backup {} has damaged pages, which PostgreSQL's data files have, too: {}\nhint: restore the last backup that passed its \
         check, and look at the disk",
        backup.id,
        backup.damage.join("; ")
    );
    Ok(backup)
}

/// Checks a backup: restores it beside, recovers it to the end of the archive, and verifies the copy, which is then removed.
///
/// # Errors
/// It failed, or could not be done: a check is never skipped.
pub(crate) fn check(id: &str, say: &mut dyn FnMut(&str)) -> Result<()> {
    let settings = Settings::here()?;
    let _alone = alone(say)?;
    let engine = PgBackRest { settings: &settings };
    let mut record = read(engine)?;
    let backup = chosen(&record, id)?.clone();
    say(&format!("check of backup {}", backup.id));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut verification = LocalSet::new()
        .block_on(&runtime, verify(engine, &backup, say))
        .unwrap_or_else(|error| Verification::not_restored(format!("{error:#}")));
    if backup.is_damaged {
        let pages = format!("pages were damaged when they were copied: {}", backup.damage.join("; "));
        verification.findings.push(Finding::failed(Check::Checksums, pages));
    }
    match engine.verify(&record.backups) {
        Ok(found) if found.is_empty() => {}
        Ok(found) => verification.findings.push(Finding::failed(
            Check::Recovery,
            format!("the repository is damaged: {}", found.join("; ")),
        )),
        Err(error) => verification.findings.push(Finding::failed(Check::Recovery, format!("{error:#}"))),
    }
    for finding in &verification.findings {
        say(&format!("{:?}, {:?}: {}", finding.check, finding.outcome, finding.detail));
    }
    let failures = verification.failures().collect::<Vec<_>>().join("; ");
    record.checks.insert(backup.id.clone(), verification);
    save(&record)?;
    ensure!(failures.is_empty(), "backup {} cannot be relied on: {failures}", backup.id);
    say(&format!("backup {} passed its check", backup.id));
    Ok(())
}

async fn verify(engine: PgBackRest<'_>, backup: &Backup, say: &mut dyn FnMut(&str)) -> Result<Verification> {
    let began = Timestamp::now();
    let copy = open(engine.settings, &in_folder("check")).await?;
    let verified = async {
        let server = restore(engine, &copy, backup, RecoveryTarget::Latest, say).await?;
        let catalogue = catalogue_in(&server, &engine.settings.database).await;
        let expectation = Expectation {
            database: &engine.settings.database,
            heartbeat: Some((began, GREATEST_LOSS)),
            catalogue: catalogue.as_ref(),
            checks: Path::new(CHECKS),
        };
        anyhow::Ok(server.verify(&expectation).await)
    }
    .await;
    copy.remove()?;
    verified
}

/// Restores a backup into the folder of `copy`, and recovers it to the target.
///
/// # Errors
/// The engine's, or the recovery's: which says how far the archive reaches.
pub(crate) async fn restore<'c>(
    engine: PgBackRest<'_>,
    copy: &'c RestoredCluster,
    backup: &Backup,
    target: RecoveryTarget,
    say: &mut dyn FnMut(&str),
) -> Result<Server<'c>> {
    copy.clear()?;
    let data = copy.data();
    engine.restore(&backup.id, data.to_str().context("a path that is UTF-8")?, say)?;
    let recovery = Recovery {
        restore_command: engine.restore_command(),
        target,
        timeline: None,
        segments: engine.segments()?,
    };
    Ok(copy.start(Some(&recovery), "").await?)
}

/// Opens the folder of a restored copy.
pub(crate) async fn open(settings: &Settings, folder: &Path) -> Result<RestoredCluster> {
    let account = if rustix::process::geteuid().is_root() {
        let login = Login::find(ACCOUNT)?;
        let Login { name, uid, gid, .. } = login.with_context(|| format!("user {ACCOUNT}"))?;
        Account { name, uid, gid }
    } else {
        Account::current()?
    };
    let programs = settings.programs();
    let installation = Installation::at(&programs, &[])
        .with_context(|| format!("there are no programs of PostgreSQL in {}", programs.display()))?;
    Ok(RestoredCluster::open(folder, account, installation, Vec::new()).await?)
}

/// The catalogue that the last heartbeat before the end of the archive wrote.
async fn catalogue_in(server: &Server<'_>, database: &str) -> Option<Catalogue> {
    let connection = Connection::connect(&Arc::new(server.superuser(database)), false).await.ok()?;
    let rows = connection.query(&"select catalogue from tercet.catalogue".into()).await.ok()?;
    serde_json::from_str(rows.first()?.text(0)?).ok()
}

/// The backup of this id, or the newest.
pub(crate) fn chosen<'r>(record: &'r Record, id: &str) -> Result<&'r Backup> {
    if id == LATEST {
        return record.latest().context("there is no backup yet\nhint: tercet backup makes one");
    }
    let found = record.backups.iter().find(|it| it.id == id);
    found.with_context(|| format!("there is no backup {id}\nhint: tercet backup list shows them"))
}

/// The record with what the repository has now; checks of backups that are gone are dropped.
pub(crate) fn read(engine: PgBackRest<'_>) -> Result<Record> {
    let mut record = Record::read()?;
    let catalogue = engine.catalogue()?;
    record.checks.retain(|id, _| catalogue.backups.iter().any(|it| it.id == *id));
    Ok(Record { cluster: catalogue.cluster, backups: catalogue.backups, ..record })
}

/// Writes record and metrics.
pub(crate) fn save(record: &Record) -> Result<()> {
    // The metrics matter more, where the record cannot be written.
    let written = record.write();
    metrics::write_backups(record)?;
    written
}
