//! Backups in a plan: the repository before the first migration, the first backup and its check after the rollout.

use anyhow::{Context as _, Result, bail};
use tercet_config::Tier;
use tercet_machine::{Step, file, plan as steps};

use super::{ExecutionPlan, Target};
use crate::backup::Task;
use crate::backup::record::Record;
use crate::backup::run::LATEST;
use crate::desired::{
    BACKUP_KEYS as KEYS, ENGINE_CONFIGURATION as CONFIGURATION, Project, programs, without_cluster,
};
use crate::operation::{Action, Operation};
use crate::survey::{Survey, Surveyed};

/// The package of the engine.
const ENGINE: &str = "pgbackrest";

/// Refuses a database and a backup machine whose programs do not fit each other.
pub(super) fn check(target: &Target<'_>, survey: &Survey) -> Result<()> {
    let (Some(database), Some(backup)) =
        (carrying(target.project, survey, Tier::Database), carrying(target.project, survey, Tier::Backup))
    else {
        return Ok(());
    };
    let (theirs, ours) = (&database.system.distribution, &backup.system.distribution);
    if theirs != ours {
        bail!(
            "{} runs {} {} and {} runs {} {}: PostgreSQL and pgBackRest must have the same version on both\n\
             hint: use the same distribution on both, or an object store: `to` in [backup]",
            database.name,
            theirs.0,
            theirs.1,
            backup.name,
            ours.0,
            ours.1
        );
    }
    let version = |machine: &Surveyed| machine.facts.packages.get(ENGINE).cloned();
    match (version(database), version(backup)) {
        (Some(theirs), Some(ours)) if theirs != ours => bail!(
            "pgBackRest is {theirs} on {} and {ours} on {}, and must have the same version on both\n\
             hint: bring both to the newest: tercet exec {} -- apt-get install --only-upgrade {ENGINE}, and the same on {}",
            database.name,
            backup.name,
            database.name,
            backup.name
        ),
        _ => Ok(()),
    }
}

/// Adds what must be there before PostgreSQL's package is installed on a machine that only restores.
pub(super) fn before_packages(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey) {
    let Some(machine) = carrying(target.project, survey, Tier::Backup) else { return };
    if !machine.facts.packages.contains_key(&programs(&machine.system).0) {
        let desired = Box::new(without_cluster());
        let steps = steps(&desired, &machine.facts);
        plan.stage([Operation::on(&machine.name, Action::Converge { desired, data: None, steps })]);
    }
}

/// Adds the initialisation of the repository, unless it has the backups of this cluster.
pub(super) fn initialise(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey) {
    let Some((machine, record)) = record(target.project, survey) else {
        note_without(plan, target);
        return;
    };
    let cluster = carrying(target.project, survey, Tier::Database).and_then(|it| it.facts.cluster.as_ref());
    let is_another_cluster = match (&record.cluster, cluster) {
        (None, _) => false,
        (Some(known), Some(cluster)) if *known != cluster.identifier => true,
        (Some(_), _) => {
            // Another address, key or certificate: whether it is right shows in the archive.
            if plan.operations().any(changes_the_way_to_the_repository) {
                plan.stage([Operation::on(&machine.name, Action::CheckArchive)]);
            }
            return;
        }
    };
    plan.stage([Operation::on(&machine.name, Action::InitialiseRepository { is_another_cluster })]);
}

/// Whether an operation writes the engine's configuration, or a key or certificate of the backup protocol.
fn changes_the_way_to_the_repository(operation: &Operation) -> bool {
    operation.steps().iter().any(|step| match step {
        Step::File(file::Step::Write { file, .. }) => {
            [CONFIGURATION, KEYS].iter().any(|folder| file.path.starts_with(folder))
        }
        _ => false,
    })
}

/// Says once that there are no backups.
fn note_without(plan: &mut ExecutionPlan, target: &Target<'_>) {
    let has_database = target.project.topology.parts().iter().any(|part| part.tier == Tier::Database);
    if has_database && target.project.topology.backup().is_none() && target.project.secrets.data.is_none() {
        plan.notes.push(
            "the database is on one machine and has no backup\n  hint: give another machine the tier \"backup\", or name an object \
             store in [backup]"
                .to_owned(),
        );
    }
}

/// Adds the first backup, and the first check.
pub(super) fn first(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey) {
    let Some((machine, record)) = record(target.project, survey) else { return };
    let mut tasks = Vec::new();
    if record.backups.is_empty() {
        // The check looks for a heartbeat in the copy; the timer's first may have come before the database.
        let database = carrying(target.project, survey, Tier::Database);
        tasks.extend(database.map(|database| (database, Task::Heartbeat)));
        tasks.push((machine, Task::BackUp { full: true }));
    }
    if record.checks.is_empty() && target.project.topology.backup().is_some_and(|it| it.check.is_some()) {
        tasks.push((machine, Task::Check { backup: LATEST.to_owned() }));
    }
    for (machine, task) in tasks {
        plan.stage([Operation::on(&machine.name, Action::StartTask { task: task.clone() })]);
        plan.stage([Operation::on(&machine.name, Action::AwaitTask { task })]);
    }
}

/// The plan of a task that an operator asks for.
pub(super) fn task(project: &Project<'_>, survey: &Survey, task: &Task) -> Result<ExecutionPlan> {
    let (machine, record) = needed_record(project, survey)?;
    if record.cluster.is_none() {
        bail!("{}: the backups are not set up yet\nhint: tercet apply", machine.name);
    }
    let mut plan = ExecutionPlan::default();
    plan.stage([Operation::on(&machine.name, Action::StartTask { task: task.clone() })]);
    Ok(plan)
}

/// The machine that makes the backups, and its record; an empty one before the first apply.
fn record<'s>(project: &Project<'_>, survey: &'s Survey) -> Option<(&'s Surveyed, Record)> {
    let machine = &project.topology.backup_machine()?.name;
    let machine = survey.machines.iter().find(|it| it.name == *machine)?;
    Some((machine, machine.report.backups.clone().unwrap_or_default()))
}

/// The same, for what cannot be done without backups.
///
/// # Errors
/// There are none.
pub(super) fn needed_record<'s>(project: &Project<'_>, survey: &'s Survey) -> Result<(&'s Surveyed, Record)> {
    record(project, survey).context(
        "the project has no backups\nhint: give a machine the tier \"backup\", or name an object store in [backup], and apply",
    )
}

/// The machine that carries a tier.
pub(super) fn carrying<'s>(project: &Project<'_>, survey: &'s Survey, tier: Tier) -> Option<&'s Surveyed> {
    let machine = project.topology.machines().iter().find(|it| it.tiers.contains(&tier))?;
    survey.machines.iter().find(|it| it.name == machine.name)
}
