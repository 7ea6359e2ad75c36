//! A copy of the database as it was at a time, beside it: restored and served by a unit until it is dropped, or a day has
//! passed.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use tercet_database::RecoveryTarget;
use tercet_database::restored::{RecoveryError, RestoredCluster, Server};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::LocalSet;

use super::pgbackrest::PgBackRest;
use super::record::{Backup, Record};
use super::run::{self, open};
use super::settings::{ACCOUNT, Settings, in_folder};

/// The folder of the copy, in the folder of the backups.
pub(crate) const FOLDER: &str = "restored";

/// The file with the target of the copy, which the agent writes before it starts the unit.
pub(crate) fn request() -> PathBuf {
    in_folder("restored.json")
}

/// Restores the copy, calls `ready`, and serves it until the unit is stopped.
///
/// # Errors
/// The target cannot be reached: the error says how far the archive reaches. Or the server ended.
pub(crate) fn run(say: &mut dyn FnMut(&str), ready: &mut dyn FnMut()) -> Result<()> {
    let settings = Settings::here()?;
    let path = request();
    let text = fs::read(&path).with_context(|| path.display().to_string())?;
    let target: RecoveryTarget = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, serve(&settings, &target, say, ready))
}

async fn serve(
    settings: &Settings,
    target: &RecoveryTarget,
    say: &mut dyn FnMut(&str),
    ready: &mut dyn FnMut(),
) -> Result<()> {
    let mut stop = signal(SignalKind::terminate())?;
    let engine = PgBackRest { settings };
    let record = run::read(engine)?;
    let copy = open(settings, &in_folder(FOLDER)).await?;
    let mut server = tokio::select! {
        server = recover(engine, &record, &copy, target, say) => server?,
        _ = stop.recv() => return Ok(()),
    };
    say(&format!("the copy is the database at {target}; {}", last_commit(&server)));
    say(&format!("look at it: {}", look(&server, &settings.database)));
    ready();
    tokio::select! {
        why = server.ended() => bail!("the server of the copy ended: {why}"),
        _ = stop.recv() => {}
    }
    server.stop().await;
    Ok(())
}

/// Restores the newest backup from which the target can be reached.
///
/// # Errors
/// There is none.
pub(super) async fn recover<'c>(
    engine: PgBackRest<'_>,
    record: &Record,
    copy: &'c RestoredCluster,
    target: &RecoveryTarget,
    say: &mut dyn FnMut(&str),
) -> Result<Server<'c>> {
    let mut candidates = candidates(record, target)?.into_iter().peekable();
    while let Some(backup) = candidates.next() {
        say(&format!("restore backup {} of {}", backup.id, backup.finished));
        match run::restore(engine, copy, backup, target.clone(), say).await {
            Ok(server) => {
                if let Some(gap) = server.gap() {
                    say(&format!("warning: {gap}"));
                }
                return Ok(server);
            }
            Err(error) if candidates.peek().is_some() && is_out_of_reach(target, &error) => {
                say(&format!("{error:#}; an earlier backup may reach it"));
            }
            Err(error) => return Err(error),
        }
    }
    bail!("no backup reaches {target}")
}

/// Whether an earlier backup may do.
fn is_out_of_reach(target: &RecoveryTarget, error: &anyhow::Error) -> bool {
    match error.downcast_ref() {
        // A restore in place has gone back to before this backup.
        Some(RecoveryError::OtherHistory { .. }) => true,
        // A restore point has no time: it may be before the end of this backup.
        Some(RecoveryError::BeforeTarget { .. } | RecoveryError::BeforeBackup(_)) => {
            matches!(target, RecoveryTarget::BeforeRelease(_))
        }
        _ => false,
    }
}

/// The backups to try, the best first.
///
/// # Errors
/// There is none from before the target.
pub(crate) fn candidates<'r>(record: &'r Record, target: &RecoveryTarget) -> Result<Vec<&'r Backup>> {
    let newest_first = || record.backups.iter().rev();
    let Some(oldest) = record.backups.first() else {
        bail!("there is no backup to restore\nhint: tercet backup makes one");
    };
    match target {
        RecoveryTarget::Latest | RecoveryTarget::BeforeRelease(_) => Ok(newest_first().collect()),
        RecoveryTarget::Time(time) => {
            let before: Vec<_> = newest_first().filter(|it| it.finished <= *time).collect();
            ensure!(
                !before.is_empty(),
                "the database cannot be restored to {time}: the oldest backup ended at {}\nhint: name a time from then on",
                oldest.finished
            );
            Ok(before)
        }
    }
}

/// When the last transaction in a copy was committed.
pub(super) fn last_commit(server: &Server<'_>) -> String {
    match server.last_commit() {
        Some(time) => format!("its last transaction was committed at {time}"),
        None => "it has no transaction since the backup".to_owned(),
    }
}

/// The command that looks at a copy, on its machine.
fn look(server: &Server<'_>, database: &str) -> String {
    format!("runuser -u {ACCOUNT} -- psql -h {} -d {database}", server.socket_folder().display())
}

/// Has the unit restore a copy, by the agent.
pub(crate) fn ask(target: &RecoveryTarget) -> Result<()> {
    candidates(&Record::read()?, target)?;
    ensure!(!in_folder(FOLDER).exists(), "there is a copy already\nhint: `tercet restore --drop` removes it");
    let path = request();
    fs::write(&path, serde_json::to_vec(target)?).with_context(|| path.display().to_string())?;
    Ok(())
}

/// Whether a copy is there, and for which target.
pub(crate) fn present() -> Option<RecoveryTarget> {
    let text = fs::read(request()).ok().filter(|_| in_folder(FOLDER).exists())?;
    serde_json::from_slice(&text).ok()
}
