//! Restores: a copy beside the database, or in its place. All is made and verified before anything that serves is touched.

use anyhow::{Context as _, Result, bail};
use tercet_config::Tier;
use tercet_database::RecoveryTarget;
use tercet_machine::Desired;

use super::ExecutionPlan;
use super::backup::{carrying, needed_record};
use crate::backup::Task;
use crate::backup::copy::candidates;
use crate::backup::replace::{Phase, Replaced};
use crate::desired::Project;
use crate::intent::Restore;
use crate::operation::{Action, Operation};
use crate::survey::{Survey, Surveyed};

/// The plan of a restore.
///
/// # Errors
/// There is no backup from which the target can be reached, or nothing to return to.
pub(super) fn plan(project: &Project<'_>, survey: &Survey, wanted: &Restore) -> Result<ExecutionPlan> {
    let database =
        carrying(project, survey, Tier::Database).context("the project has no database of its own")?;
    let mut plan = ExecutionPlan::default();
    match wanted {
        Restore::Beside(target) => {
            let machine = backups(project, survey, target, &mut plan)?;
            if let Some(there) = &machine.report.copy {
                bail!(
                    "{}: there is a copy already: {there}\nhint: `tercet restore --drop` removes it",
                    machine.name
                );
            }
            plan.stage([Operation::on(&database.name, Action::Archive)]);
            let start = Action::RestoreCopy { target: target.clone() };
            plan.stage([Operation::on(&machine.name, start)]);
        }
        Restore::Replace(target) => {
            let replaced = Replaced::By(target.clone());
            let machine = if is_incomplete(database, &replaced) {
                needed_record(project, survey)?.0
            } else {
                let machine = backups(project, survey, target, &mut plan)?;
                plan.notes.push(format!(
                    "what was committed after {target} is lost from the database, and kept in the data before it"
                ));
                plan.stage([Operation::on(&database.name, Action::Archive)]);
                machine
            };
            replace(&mut plan, project, database, machine, &replaced)?;
        }
        Restore::Undo => {
            let (machine, _) = needed_record(project, survey)?;
            let there = database.report.replacement.as_ref();
            let there = there.filter(|it| it.phase != Phase::Prepared || it.is_on_its_way_back());
            let there = there.with_context(|| {
                format!("{}: nothing was replaced, so there is nothing to return to", database.name)
            })?;
            if !there.can_be_undone(&database.report.replaced) {
                bail!("{}: the data before the replacement of {} was removed", database.name, there.since);
            }
            if !is_incomplete(database, &Replaced::ByTheOneBefore) {
                plan.notes.push(format!(
                    "what was committed since {} is lost from the database, and kept in the data before it",
                    there.since
                ));
            }
            replace(&mut plan, project, database, machine, &Replaced::ByTheOneBefore)?;
        }
        Restore::Drop => drop(&mut plan, survey, database),
    }
    Ok(plan)
}

/// The machine that makes the backups; a note says what is restored.
fn backups<'s>(
    project: &Project<'_>,
    survey: &'s Survey,
    target: &RecoveryTarget,
    plan: &mut ExecutionPlan,
) -> Result<&'s Surveyed> {
    let (machine, record) = needed_record(project, survey)?;
    let backup = candidates(&record, target)?.first().copied().cloned().context("there is no backup")?;
    let checked = match record.checks.get(&backup.id) {
        None => "which was not checked",
        Some(checked) if checked.passed() => "which passed its check",
        Some(_) => "which FAILED its check",
    };
    plan.notes.push(format!(
        "from backup {} of {}, {checked}: {} MiB, and the write-ahead log up to {target}",
        backup.id,
        backup.finished,
        backup.size >> 20
    ));
    Ok(machine)
}

/// Whether the database was replaced by this before, by a restore that was interrupted after that.
fn is_incomplete(database: &Surveyed, target: &Replaced) -> bool {
    database.report.replacement.as_ref().is_some_and(|there| there.is_incomplete(target))
}

/// Makes the copy, replaces the database, and makes a backup of the result; what an interrupted restore has done is left out.
fn replace(
    plan: &mut ExecutionPlan,
    project: &Project<'_>,
    database: &Surveyed,
    backups: &Surveyed,
    target: &Replaced,
) -> Result<()> {
    let on = |action| Operation::on(&database.name, action);
    match &database.report.replacement {
        Some(there) if there.is_incomplete(target) => plan.notes.push(format!(
            "the database was replaced at {}, and is not replaced again: the operations that follow are completed",
            there.since
        )),
        _ => {
            plan.stage([on(Action::PrepareReplacement { target: target.clone() })]);
            plan.stage([on(Action::ReplaceDatabase { target: target.clone() })]);
        }
    }
    let machine = project.topology.machines().iter().find(|it| it.name == database.name);
    let desired = machine.map(|it| project.desired(it, &database.system, &[], &[], &[])).transpose()?;
    let cluster = desired.and_then(|it| it.cluster);
    // Passwords may have been replaced since.
    plan.stage([on(Action::Retire {
        what: "set the roles and passwords in the database",
        desired: Box::new(Desired { cluster, ..Desired::default() }),
        steps: Vec::new(),
    })]);
    plan.stage([Operation::on(&backups.name, Action::StartTask { task: Task::BackUp { full: true } })]);
    plan.stage([on(Action::CompleteReplacement)]);
    Ok(())
}

fn drop(plan: &mut ExecutionPlan, survey: &Survey, database: &Surveyed) {
    let copies = survey.machines.iter().filter(|machine| machine.report.copy.is_some());
    plan.stage(copies.map(|machine| Operation::on(&machine.name, Action::DropCopy)));
    if !database.report.replaced.is_empty() {
        plan.stage([Operation::on(&database.name, Action::DropReplaced)]);
        for path in &database.report.replaced {
            plan.notes.push(format!(
                "{}: {} is removed: `tercet restore --undo` is not possible then",
                database.name,
                path.display()
            ));
        }
    }
}
