//! Backups of the private PostgreSQL of `tercet up`, in the project's `.tercet/backups`.

mod list;
pub(crate) mod live;

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use serde_json::Value;
use tercet_database::restored::{Check, Expectation, Finding, Outcome as Grade, Verification};
use tercet_database::{Catalogue, RecoveryTarget, heartbeat};
use tokio::task::LocalSet;

use self::live::{Live, Serving};
use crate::backups::{self, Backup, Copy, Entry, Size};
use crate::cli::{self, BackupVerb};
use crate::failure::{Failure, Outcome};
use crate::project::Project;

/// The folder of the project's own checks.
pub(crate) const CHECKS: &str = "checks";
/// The greatest age of the heartbeat, which a check updates at its start.
const HEARTBEAT_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn run(project: &Project, arguments: &cli::Backup) -> Outcome {
    match &arguments.verb {
        None => block_on(take(&Live::open(project)?, arguments.take.full)),
        Some(BackupVerb::List(list)) => list::run(&Live::open(project)?, list.json),
        Some(BackupVerb::Check(check)) => {
            block_on(self::check(&Live::open(project)?, &project.folder, &check.backup, check.json))
        }
        Some(BackupVerb::Key(_)) => Err(Failure::input_message(
            "the backups of tercet up are not encrypted: they are beside the database, on the same disk",
        )),
    }
}

/// Runs a command on this thread: the kernel ends its child processes with it.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

/// Does the work until it is done or a signal ends this process.
pub(crate) async fn until_stopped<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        result = work => result,
        signal = stopped() => bail!("stopped by {signal}"),
    }
}

/// Resolves at a signal that ends this process.
pub(crate) async fn stopped() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let signals =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), signal(SignalKind::hangup()));
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = signals else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
        _ = hangup.recv() => "SIGHUP",
    }
}

/// Prints a line.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Makes a backup.
async fn take(live: &Live, full: bool) -> Outcome {
    let _lock = live.backups.lock()?;
    live.backups.clean()?;
    let serving = live.serve().await?;
    let made = until_stopped(make(live, &serving)).await;
    serving.stop().await;
    if made.is_err() {
        live.backups.clean()?;
    }
    let (entry, seconds) = made?;
    say(&format!("backup {} is made: {} in {seconds:.1} s", entry.id, Size(entry.bytes)));
    if full {
        say("every backup of tercet up is full: --full changes nothing");
    }
    say(
        "the write-ahead log is archived from now on, so that the database can be restored to any later time",
    );
    say("next: tercet backup check, which restores a copy and verifies it");
    Ok(())
}

async fn make(live: &Live, serving: &Serving) -> anyhow::Result<(Entry, f64)> {
    let began = Timestamp::now();
    let watch = Instant::now();
    can_archive(serving).await?;
    let data_bytes: u64 =
        serving.value("select sum(pg_database_size(oid)) from pg_database").await?.parse()?;
    backups::need_room(live.backups.folder(), data_bytes)?;
    let catalogue = Catalogue::read(&serving.superuser("postgres")).await?;
    // From now on the server archives.
    backups::create(serving.archive.folder())?;
    let id = began.strftime("%Y%m%d-%H%M%S").to_string();
    let partial = live.backups.partial(&id);
    backups::create(&partial)?;
    say(&format!("copying {} of PostgreSQL {}", Size(data_bytes), serving.installation.version));
    let (timeline, end_location, data_bytes) = copy(live, serving, &id, &partial).await?;
    let backup = Backup {
        id,
        kind: "full".to_owned(),
        began,
        ended: Timestamp::now(),
        system_identifier: serving.control.system_identifier.clone(),
        major: serving.installation.version.major,
        timeline,
        end_location,
        data_bytes,
        preload_libraries: catalogue.preload_libraries,
    };
    let entry = live.backups.complete(&backup)?;
    serving.archive_all().await.context("the backup is made, and the archive does not take WAL")?;
    Ok((entry, watch.elapsed().as_secs_f64()))
}

/// Fails if a backup of this server could not be restored.
async fn can_archive(serving: &Serving) -> anyhow::Result<()> {
    if serving.value("show archive_mode").await? != "on"
        || !serving.value("show archive_command").await?.contains(" archive ")
    {
        bail!(
            "the database does not archive: an older tercet started it, or ALTER SYSTEM changed archive_mode or archive_command; hint: restart tercet up, or ALTER SYSTEM RESET both"
        );
    }
    let tablespaces = serving
        .value("select string_agg(quote_ident(spcname), ', ') from pg_tablespace where spcname !~ '^pg_'")
        .await?;
    if !tablespaces.is_empty() {
        bail!(
            "tablespaces outside the data directory cannot be backed up: {tablespaces}; hint: move their tables to pg_default, and drop them"
        );
    }
    Ok(())
}

/// Runs `pg_basebackup` into a folder. Returns the timeline and location of the backup's end, and the size of its files.
async fn copy(live: &Live, serving: &Serving, id: &str, folder: &Path) -> anyhow::Result<(u32, String, u64)> {
    let program = serving.installation.program("pg_basebackup");
    let label = format!("tercet {id}");
    let client = serving.client_arguments();
    let mut arguments: Vec<&OsStr> =
        ["-F", "t", "-z", "-X", "stream", "-c", "fast", "-l", &label, "-D"].map(AsRef::as_ref).to_vec();
    arguments.push(folder.as_ref());
    arguments.extend(client.iter().map(AsRef::<OsStr>::as_ref));
    backups::copy::run(&serving.installation, program, &arguments, folder, live.account.clone()).await?;
    let path = folder.join("backup_manifest");
    let named = || path.display().to_string();
    let manifest: Value =
        serde_json::from_str(&std::fs::read_to_string(&path).with_context(named)?).with_context(named)?;
    let range = manifest["WAL-Ranges"].as_array().and_then(|ranges| ranges.last()).with_context(named)?;
    let timeline =
        range["Timeline"].as_u64().and_then(|timeline| timeline.try_into().ok()).with_context(named)?;
    let end = range["End-LSN"].as_str().with_context(named)?;
    let sizes =
        manifest["Files"].as_array().with_context(named)?.iter().filter_map(|file| file["Size"].as_u64());
    Ok((timeline, end.to_owned(), sizes.sum()))
}

/// Restores a backup into a scratch folder, verifies it, and records the result.
async fn check(live: &Live, project: &Path, id: &str, json: bool) -> Outcome {
    let _lock = live.backups.lock()?;
    live.backups.clean()?;
    let entry = live.backups.find(id)?.with_context(|| {
        if id == "latest" {
            format!("there is no backup in {}; hint: tercet backup", live.backups.folder().display())
        } else {
            format!("there is no backup {id}; hint: tercet backup list")
        }
    })?;
    let folder = live.backups.check_folder();
    let verification = until_stopped(async { Ok(verify(live, project, &entry, &folder).await) }).await;
    backups::remove_folder(&folder)?;
    let verification = verification?;
    entry.record(&verification)?;
    if json {
        say(&serde_json::json!({ "backup": entry.id, "verification": verification }).to_string());
    } else {
        say(&format!("backup {}", entry.id));
        verification.findings.iter().for_each(|finding| say(&shown(finding)));
    }
    if verification.passed() {
        return Ok(());
    }
    let causes: Vec<&str> = verification.failures().collect();
    Err(anyhow::anyhow!("backup {} did not pass its check: {}", entry.id, causes.join("; ")).into())
}

/// A finding as a line.
pub(crate) fn shown(finding: &Finding) -> String {
    let outcome = match finding.outcome {
        Grade::Passed => "passed",
        Grade::Warning => "warning",
        Grade::Failed => "FAILED",
    };
    let check = match finding.check {
        Check::Recovery => "recovery",
        Check::Heartbeat => "heartbeat",
        Check::Relations => "relations",
        Check::Catalogue => "catalogue",
        Check::OwnCheck => "own check",
        Check::Schema => "schema",
        Check::Checksums => "checksums",
    };
    format!("  {outcome:8} {check:10} {}", finding.detail)
}

async fn verify(live: &Live, project: &Path, entry: &Entry, folder: &Path) -> Verification {
    let backup = match &entry.backup {
        Ok(backup) => backup,
        Err(cause) => return Verification::not_restored(cause.clone()),
    };
    let began = Timestamp::now();
    // The live database, if the backup is one of it: its transactions up to now must be in the archive.
    let now = match beat(live, backup).await {
        Ok(now) => now,
        Err(error) => return Verification::not_restored(format!("{error:#}")),
    };
    let restored = async {
        let installation = live.installation(backup.major)?;
        let copy = Copy::unpack(entry, backup, folder, live.account.clone(), installation).await?;
        let timeline = now.as_ref().map(|(_, timeline)| *timeline);
        let recovery = live.backups.archive(&backup.system_identifier).recovery(
            RecoveryTarget::Latest,
            timeline,
            None,
        )?;
        let expectation = Expectation {
            database: &live.name,
            heartbeat: now.as_ref().map(|_| (began, HEARTBEAT_LIMIT)),
            catalogue: now.as_ref().map(|(catalogue, _)| catalogue),
            checks: &project.join(CHECKS),
        };
        anyhow::Ok(copy.recover(&recovery, false).await?.verify(&expectation).await)
    };
    restored.await.unwrap_or_else(|error| Verification::not_restored(format!("{error:#}")))
}

/// Updates the heartbeat of the live database, and archives all of its WAL. Returns its catalogue and timeline; `None` if the
/// backup is not one of it.
async fn beat(live: &Live, backup: &Backup) -> anyhow::Result<Option<(Catalogue, u32)>> {
    let Some(control) = live.control()? else { return Ok(None) };
    let archive = live.backups.archive(&backup.system_identifier);
    if control.system_identifier != backup.system_identifier
        || !archive.is_in_history(control.timeline, backup.timeline, &backup.end_location)?
    {
        return Ok(None);
    }
    let serving = live.serve().await?;
    let beaten = async {
        let cluster = Catalogue::read(&serving.superuser("postgres")).await?;
        if !cluster.databases.contains(&live.name) {
            let others: Vec<_> =
                cluster.databases.iter().filter(|name| *name != "postgres").cloned().collect();
            bail!(
                "the cluster has no database {}, it has {}; hint: after the folder was renamed, name = \"…\" in \
                 tercet.toml names the former one",
                live.name,
                others.join(", ")
            );
        }
        let is_written = heartbeat::beat(&serving.superuser(&live.name)).await?;
        anyhow::ensure!(is_written, "the database has not been prepared: run `tercet up` once");
        let catalogue = Catalogue::read(&serving.superuser(&live.name)).await?;
        serving.archive_all().await?;
        anyhow::Ok(catalogue)
    };
    let beaten = beaten.await;
    serving.stop().await;
    Ok(Some((beaten?, control.timeline)))
}
