//! `tercet restore --replace` and `--undo` of `tercet up`.
//!
//! The database is replaced by two renames, after the restored copy beside it has been recovered and verified. Until then a
//! killed command has changed nothing; between the renames, the next command or `tercet up` completes them.

use std::path::Path;

use tercet_database::restored::{Check, Expectation};
use tercet_database::{ControlData, RecoveryTarget};

use super::restore;
use crate::backups::{self, replacement};
use crate::commands::backup::here::live::Live;
use crate::commands::backup::here::{CHECKS, block_on, say, shown, until_stopped};
use crate::failure::{Failure, Outcome};
use crate::project::Project;

/// The folder in that of the cluster in which the copy is restored: on the same file system as the data directory.
const RESTORED: &str = "restored";

/// Replaces the database by a restored copy.
pub(super) fn run(live: &Live, project: &Project, target: &RecoveryTarget, yes: Option<&str>) -> Outcome {
    refuse_if_up(live)?;
    let _lock = live.backups.lock()?;
    // The error of a target that no backup reaches comes before the question.
    live.backups.reaching(target, super::history(live)?.0.as_ref())?;
    say(&format!("the database {} is replaced by itself as of {target}", live.name));
    say(
        "transactions committed later are not in it; the present database is kept, for tercet restore --undo",
    );
    live.confirm("replace its database", yes)?;
    let folder = live.folder().join(RESTORED);
    let outcome = block_on(async { Ok(until_stopped(replace(live, project, target, &folder)).await?) });
    let removed = backups::remove_folder(&folder);
    if outcome.is_err() {
        say("the database is unchanged");
    }
    outcome?;
    Ok(removed?)
}

async fn replace(
    live: &Live,
    project: &Project,
    target: &RecoveryTarget,
    folder: &Path,
) -> anyhow::Result<()> {
    let restored = restore(live, target, folder).await?;
    let server = restored.recover().await?;
    let last_commit = super::last_commit(&server);
    let checks = project.folder.join(CHECKS);
    let expectation = Expectation { database: &live.name, heartbeat: None, catalogue: None, checks: &checks };
    let verification = server.verify(&expectation).await;
    // Recovery is over: a gap would have ended it.
    let verified = verification.findings.iter().filter(|finding| finding.check != Check::Recovery);
    verified.for_each(|finding| say(&shown(finding)));
    if !verification.passed() {
        let causes: Vec<&str> = verification.failures().collect();
        anyhow::bail!("the restored copy did not pass its check: {}", causes.join("; "));
    }
    let data = restored.copy.data();
    restored.archive.take_histories(&data)?;
    let control = ControlData::read(restored.copy.installation(), &data)?;
    restored.archive.continue_on(control.timeline)?;
    let before = replacement::replace(live.folder(), &data)?;
    say(&format!("the database is replaced; its last commit: {last_commit}"));
    if let Some(before) = before {
        say(&format!("the one before it is kept: {}", before.display()));
        say("  return to it: tercet restore --undo");
        say("  remove it:    tercet restore --drop");
    }
    say("next: tercet up, which applies the migrations that are newer; then tercet backup");
    Ok(())
}

/// Returns to the database that was replaced last.
pub(super) fn undo(live: &Live, yes: Option<&str>) -> Outcome {
    refuse_if_up(live)?;
    let _lock = live.backups.lock()?;
    let Some(before) = replacement::all(live.folder())?.pop() else {
        return Err(Failure::input_message("no database was replaced here: there is nothing to undo"));
    };
    say(&format!("the database {} is replaced by {}", live.name, before.display()));
    live.confirm("replace its database", yes)?;
    let control = live.control_of(&before)?;
    live.backups.archive(&control.system_identifier).continue_on(control.timeline)?;
    let replaced = replacement::replace(live.folder(), &before)?;
    say("the database before the restore is back");
    if let Some(replaced) = replaced {
        say(&format!("the restored one is kept: {}", replaced.display()));
    }
    Ok(())
}

fn refuse_if_up(live: &Live) -> Outcome {
    if live.is_up() {
        return Err(Failure::input_message(
            "tercet up is running: its database cannot be replaced\n\
             hint: stop it by Ctrl-C, repeat this command, then start it again; without --replace, the copy is restored beside it",
        ));
    }
    Ok(())
}
