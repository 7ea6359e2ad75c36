//! Backups on the project's machines.

use anyhow::anyhow;
use serde_json::json;
use tercet_fleet::backup::Task;
use tercet_fleet::execute::{Executed, execute, plan_of};
use tercet_fleet::intent::Wanted;
use tercet_fleet::secrets;

use super::listing::{Entry, print};
use crate::cli::{self, BackupVerb};
use crate::failure::{Failure, Outcome};
use crate::fleet::{Machines, Spinner};

pub(super) fn run(arguments: &cli::Backup) -> Outcome {
    match &arguments.verb {
        None => task(&arguments.take.machines, &Task::BackUp { full: arguments.take.full }, "backing up"),
        Some(BackupVerb::List(list)) => self::list(list),
        Some(BackupVerb::Check(check)) => self::check(check),
        Some(BackupVerb::Key(key)) => self::key(key),
    }
}

/// Starts a task on the machine that makes the backups, and waits for its end.
fn task(arguments: &cli::Machines, task: &Task, doing: &'static str) -> Outcome {
    let machines = Machines::of(arguments)?;
    let spinner = Spinner::new(doing);
    let fleet = machines.open(&spinner, false, &[])?;
    let wanted = Wanted::task(task.clone());
    let mut planned = plan_of(&fleet, &wanted)?;
    let listener = |progress| spinner.print(&progress);
    // It asks for nothing: a backup changes nothing that serves.
    while let Executed::Changed(anew) = execute(&fleet, &wanted, &planned, &listener)? {
        planned = anew;
    }
    let machine = &machines.project().topology.backup_machine().ok_or_else(|| anyhow!("no backups"))?.name;
    let done = fleet.await_task(machine, task, &mut |line| {
        spinner.line(line);
        Ok(())
    });
    spinner.finish();
    Ok(done?)
}

fn list(arguments: &cli::BackupList) -> Outcome {
    let machines = Machines::of(&arguments.machines)?;
    let spinner = Spinner::new("reading the repository");
    let (fleet, missing) = machines.open_reachable()?;
    let machine = machines.project().topology.backup_machine();
    let unreachable = missing.into_iter().find(|(name, _)| machine.is_some_and(|it| it.name == *name));
    if let Some((_, error)) = unreachable {
        return Err(error.into());
    }
    let record = fleet.backups()?;
    spinner.finish();
    let Some(record) = record else {
        return Err(Failure::input_message(
            "the project has no backups\nhint: give a machine the tier \"backup\", or name an object store in [backup]",
        ));
    };
    let entries = record.backups.iter().map(|backup| Entry {
        id: backup.id.clone(),
        kind: backup.kind.to_string(),
        finished: backup.finished,
        size: backup.size,
        stored: backup.stored,
        checked: record.checks.get(&backup.id).cloned(),
    });
    print(&entries.collect::<Vec<_>>(), &[], arguments.json);
    if let Some(failure) = record.failure.as_ref().filter(|_| !arguments.json) {
        return Err(anyhow!("the last attempt at {} failed: {}", failure.at, failure.why).into());
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn check(arguments: &cli::BackupCheck) -> Outcome {
    let checked =
        task(&arguments.machines, &Task::Check { backup: arguments.backup.clone() }, "checking the backup");
    if arguments.json {
        let machines = Machines::of(&arguments.machines)?;
        let (fleet, _) = machines.open_reachable()?;
        let record = fleet.backups()?.unwrap_or_default();
        let backup = record.backups.iter().rev().find(|it| it.id == arguments.backup);
        let backup = backup.or(record.latest()).map(|it| it.id.clone()).unwrap_or_default();
        println!("{:#}", json!({ "id": backup, "checked": record.checks.get(&backup) }));
    }
    checked
}

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn key(arguments: &cli::BackupKey) -> Outcome {
    let project = crate::project::Project::open(&arguments.folder)?;
    match secrets::backup_key(&project.folder, &project.topology)? {
        Some(key) => println!("{}", key.reveal()),
        None => {
            return Err(Failure::input_message(
                "these backups are not encrypted: they are on a machine of the project\nhint: nothing is needed to read them but that machine",
            ));
        }
    }
    Ok(())
}
