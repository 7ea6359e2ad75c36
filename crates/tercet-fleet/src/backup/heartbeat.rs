//! The task on the database's machine that runs each half minute: it writes the time and the catalogue into the
//! database, so that a restored copy shows what it lacks, and looks at the archive.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use tercet_database::catalogue::Catalogue;
use tercet_database::heartbeat;
use tercet_postgres::{Connection, Host, Target, quote};
use tokio::task::LocalSet;

use super::metrics::Archive;
use super::pgbackrest::PgBackRest;
use super::settings::{Settings, data, in_folder};
use crate::migrate::SOCKETS;

/// How long archiving may fail before the task fails: one retry of PostgreSQL is no news.
const PATIENCE: Duration = Duration::from_secs(60);

/// The size of a segment of the write-ahead log, in bytes.
const SEGMENT: u64 = 16 << 20;

/// The time at which the queue was last seen beyond its limit: write-ahead log is dropped then, in silence.
const HOLE: &str = "archive-hole.json";

/// What PostgreSQL says of its archiver.
struct Archiver {
    /// The segment that could not be archived, if the last attempt failed.
    failed: Option<String>,
}

/// The error of the last run, while there is one.
const FAILURE: &str = "heartbeat-failure";

/// Runs the task.
///
/// # Errors
/// PostgreSQL does not answer, or segments of the write-ahead log are not archived: the error names the cause.
pub(crate) fn run() -> Result<()> {
    let result = beat_and_look();
    let path = in_folder(FAILURE);
    // A full disk must not hide the error itself.
    match &result {
        Ok(()) => drop(fs::remove_file(path)),
        Err(error) => drop(fs::write(path, format!("{error:#}"))),
    }
    result
}

/// The error of the last run, if it failed.
pub(crate) fn failure() -> Option<String> {
    fs::read_to_string(in_folder(FAILURE)).ok()
}

fn beat_and_look() -> Result<()> {
    let settings = Settings::here()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let archiver = LocalSet::new().block_on(&runtime, beat(&settings)).context("PostgreSQL")?;
    let wal = data(settings.major).join("pg_wal");
    let (waiting, lag) = queue(&wal)?;
    let archive = Archive {
        lag_seconds: lag.as_secs_f64(),
        queue: waiting * SEGMENT,
        queue_limit: settings.queue_limit,
        fails: archiver.failed.is_some(),
    };
    archive.write()?;
    let hole = in_folder(HOLE);
    if archive.queue > archive.queue_limit {
        fs::write(&hole, serde_json::to_vec(&Timestamp::now())?)
            .with_context(|| hole.display().to_string())?;
    }
    let engine = PgBackRest { settings: &settings };
    if let Some(since) = fs::read(&hole).ok().and_then(|text| serde_json::from_slice::<Timestamp>(&text).ok())
    {
        // A backup that began after it needs nothing of what was dropped.
        let closed =
            engine.catalogue().is_ok_and(|it| it.backups.iter().any(|backup| backup.started > since));
        ensure!(
            closed,
            "the queue of the write-ahead log was beyond its limit of {} MiB at {since}, and what does not fit is dropped: the \
             database cannot be restored to a time from then on; hint: `tercet backup --full` closes the gap",
            archive.queue_limit >> 20
        );
        fs::remove_file(&hole).with_context(|| hole.display().to_string())?;
    }
    let Some(segment) = archiver.failed.filter(|_| lag > PATIENCE) else { return Ok(()) };
    let Err(cause) = engine.push(&wal.join(&segment).display().to_string()) else { return Ok(()) };
    bail!("{}", describe(&archive, &segment, &format!("{cause:#}")))
}

/// Writes heartbeat and catalogue, and asks for the archiver.
async fn beat(settings: &Settings) -> Result<Archiver> {
    let socket = Host::socket(Path::new(SOCKETS), settings.port);
    let target = Arc::new(Target::new(socket, &settings.database, "postgres"));
    let connection = Connection::connect(&target, false).await?;
    if heartbeat::beat(&target).await? {
        write_catalogue(&connection, &Catalogue::read(&target).await?).await?;
    }
    let select = "select last_failed_wal from pg_stat_archiver
                  where last_failed_time > coalesce(last_archived_time, '-infinity')";
    let rows = connection.query(&select.into()).await?;
    let failed = rows.first().and_then(|row| row.text(0)).map(str::to_owned);
    // It becomes part of a path.
    Ok(Archiver {
        failed: failed.filter(|name| name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'.')),
    })
}

/// Writes the catalogue, with which a check compares a restored copy.
async fn write_catalogue(connection: &Connection, catalogue: &Catalogue) -> Result<()> {
    let json = quote::literal(&serde_json::to_string(catalogue)?);
    // A new row only when it differs: it would be in the write-ahead log each time.
    connection
        .simple_query(&format!(
            "set client_min_messages to warning;
             create table if not exists tercet.catalogue (catalogue jsonb not null);
             create unique index if not exists catalogue_one_row on tercet.catalogue ((true));
             insert into tercet.catalogue values ({json}) on conflict ((true)) do update set catalogue = excluded.catalogue
                where catalogue.catalogue - 'at' is distinct from excluded.catalogue - 'at'"
        ))
        .await?;
    Ok(())
}

/// The number of complete segments that wait to be archived, and how long the oldest has.
fn queue(wal: &Path) -> Result<(u64, Duration)> {
    let folder = wal.join("archive_status");
    let (mut count, mut oldest) = (0, Duration::ZERO);
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(".ready") {
            count += 1;
            // It may have been archived since.
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
            oldest = oldest.max(age.unwrap_or_default());
        }
    }
    Ok((count, oldest))
}

fn describe(archive: &Archive, segment: &str, cause: &str) -> String {
    let mebibytes = |bytes: u64| bytes >> 20;
    let consequence = if archive.queue > archive.queue_limit {
        "write-ahead log is dropped: the database cannot be restored to a time from then on until the next backup"
    } else if archive.queue > archive.queue_limit / 2 {
        "more than half of the queue is used: when it is full, write-ahead log is dropped"
    } else {
        "what has been committed since then is on this machine alone"
    };
    format!(
        "the write-ahead log has not been archived for {:.0} s, from segment {segment} on: {cause}; {} of {} MiB of its queue wait; {consequence}",
        archive.lag_seconds,
        mebibytes(archive.queue),
        mebibytes(archive.queue_limit)
    )
}
