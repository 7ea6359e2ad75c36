//! Restores of the private PostgreSQL of `tercet up`.

mod replace;

use std::path::Path;

use anyhow::bail;
use tercet_database::restored::Server;
use tercet_database::{ControlData, Recovery, RecoveryTarget};

use crate::backups::{self, Archive, Copy, History, Size, replacement, size_on_disk};
use crate::cli;
use crate::commands::backup::here::live::Live;
use crate::commands::backup::here::{block_on, say, stopped, until_stopped};
use crate::failure::{Failure, Outcome};
use crate::project::Project;

pub(super) fn run(project: &Project, arguments: &cli::Restore, target: Option<&RecoveryTarget>) -> Outcome {
    if let Some(RecoveryTarget::BeforeRelease(release)) = target {
        return Err(Failure::input_message(format!(
            "tercet up has no releases, and {release} is no time\nhint: name a time, such as \"10 minutes ago\""
        )));
    }
    let live = Live::open(project)?;
    match target {
        Some(target) if arguments.replace => replace::run(&live, project, target, arguments.yes.as_deref()),
        Some(target) => block_on(beside(&live, target)),
        None if arguments.undo => replace::undo(&live, arguments.yes.as_deref()),
        None => drop_copies(&live, arguments.yes.as_deref()),
    }
}

/// Restores a copy and runs it until a signal.
async fn beside(live: &Live, target: &RecoveryTarget) -> Outcome {
    let _lock = live.backups.lock()?;
    let folder = live.backups.restored_folder();
    let looked = look(live, target, &folder).await;
    backups::remove_folder(&folder)?;
    looked?;
    say("the copy is removed");
    Ok(())
}

async fn look(live: &Live, target: &RecoveryTarget, folder: &Path) -> anyhow::Result<()> {
    let restored = until_stopped(restore(live, target, folder)).await?;
    let mut server = until_stopped(restored.recover()).await?;
    say(&format!("the database as of {target} is restored beside the present one"));
    say(&format!("  last commit   {}", last_commit(&server)));
    say(&format!("  look at it    psql -h {} -U postgres {}", server.socket_folder().display(), live.name));
    say("  remove it     Ctrl-C");
    tokio::select! {
        reason = server.ended() => bail!("the server of the copy ended: {reason}"),
        _ = stopped() => server.stop().await,
    }
    Ok(())
}

/// The time of the last transaction of a restored copy, for people.
fn last_commit(server: &Server<'_>) -> String {
    server.last_commit().map_or_else(|| "before the end of the backup".to_owned(), |time| time.to_string())
}

/// A restored backup and its recovery.
struct Restored {
    copy: Copy,
    archive: Archive,
    recovery: Recovery,
    /// Whether the archive has all WAL up to now.
    complete: bool,
}

/// The history of the live cluster, and whether that is there: if it is lost or damaged, the history of the newest backup.
fn history(live: &Live) -> anyhow::Result<(Option<History>, bool)> {
    let control = live.control().unwrap_or_else(|error| {
        say(&format!("the present database cannot be read: {error:#}"));
        None
    });
    Ok(match control {
        Some(ControlData { system_identifier, timeline, .. }) => {
            (Some(History { system_identifier, timeline: Some(timeline) }), true)
        }
        None => (live.backups.last_history()?, false),
    })
}

/// Unpacks the newest backup that reaches the target into `folder`. The write-ahead log of the live cluster is archived first,
/// or, if it is stopped, read where it is.
async fn restore(live: &Live, target: &RecoveryTarget, folder: &Path) -> anyhow::Result<Restored> {
    let (history, is_there) = history(live)?;
    let (entry, backup) = live.backups.reaching(target, history.as_ref())?;
    if live.is_up() && is_there {
        live.serve().await?.archive_all().await?;
    }
    let archive = live.backups.archive(&backup.system_identifier);
    if !archive.folder().is_dir() {
        bail!("{} is missing: the write-ahead log since the backup is lost", archive.folder().display());
    }
    let stopped_data = Some(live.data()).filter(|data| !live.is_up() && data.join("pg_wal").is_dir());
    let timeline = history.and_then(|history| history.timeline);
    let recovery = archive.recovery(target.clone(), timeline, stopped_data.as_deref())?;
    say(&format!("restoring backup {} and recovering it to {target}", entry.id));
    let installation = live.installation(backup.major)?;
    let copy = Copy::unpack(&entry, &backup, folder, live.account.clone(), installation).await?;
    // Without the live cluster, what it had not archived is lost.
    Ok(Restored { copy, archive, recovery, complete: is_there })
}

impl Restored {
    /// Recovers the copy and starts its server.
    async fn recover(&self) -> anyhow::Result<Server<'_>> {
        let server = self.copy.recover(&self.recovery, self.complete).await?;
        if let Some(gap) = server.gap().cloned() {
            server.stop().await;
            let hint = gap.reached.map_or_else(String::new, |time| format!("; hint: --to {time}"));
            bail!("{} cannot be reached: {gap}{hint}", self.recovery.target);
        }
        Ok(server)
    }
}

/// Removes the copy that a killed command left, and the databases before the last restores, after a confirmation.
fn drop_copies(live: &Live, yes: Option<&str>) -> Outcome {
    let _lock = live.backups.lock()?;
    let folder = live.backups.restored_folder();
    if folder.exists() {
        // A killed command's server ended with it.
        backups::remove_folder(&folder)?;
        say("the restored copy is removed");
    }
    let replaced = replacement::all(live.folder())?;
    if replaced.is_empty() {
        say("no database before a restore is kept");
        return Ok(());
    }
    for path in &replaced {
        say(&format!("{}: {}", path.display(), Size(size_on_disk(path)?)));
    }
    live.confirm("remove them", yes)?;
    for path in &replaced {
        backups::remove_folder(path)?;
    }
    say("the databases before the restores are removed");
    Ok(())
}
