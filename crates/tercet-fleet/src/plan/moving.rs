//! The database moves to another machine: PostgreSQL stops on the old one when all of its write-ahead log is in the archive,
//! and the new one starts with a copy that is recovered to the end of it.

use anyhow::{Context as _, Result, bail, ensure};
use tercet_config::Tier;
use tercet_database::RecoveryTarget;
use tercet_machine::{Desired, plan as steps};

use super::backup::{carrying, needed_record};
use super::{ExecutionPlan, Target, data};
use crate::backup::copy::candidates;
use crate::backup::replace::{Phase, Replaced, Replacement};
use crate::operation::{Action, Operation};
use crate::survey::{Survey, Surveyed};

/// The database of a cluster without a database of a user.
const OF_POSTGRESQL: &str = "postgres";

/// Refuses a move of nothing, to the same place, without a backup, or onto another database.
pub(super) fn check(target: &Target<'_>, survey: &Survey) -> Result<()> {
    let known = data::recorded(target, survey).context("there is no data to move\nhint: tercet apply")?;
    let new =
        carrying(target.project, survey, Tier::Database).context("tercet.toml has no database machine")?;
    ensure!(
        known.machine != new.name,
        "the database is on {} already\nhint: give the new machine the tier \"database\" in tercet.toml, in place of {}",
        new.name,
        new.name
    );
    let (_, record) = needed_record(target.project, survey)
        .context("a move restores the database on the new machine, by its backups")?;
    candidates(&record, &RecoveryTarget::Latest)?;
    let others =
        new.facts.cluster.iter().flat_map(|it| it.databases.keys()).filter(|it| *it != OF_POSTGRESQL);
    let others: Vec<&str> = others.map(String::as_str).collect();
    // An interrupted move has created the project's own.
    if others.iter().any(|it| *it != target.project.topology.name()) {
        bail!(
            "{}: its PostgreSQL has databases of its own: {}\nhint: choose another machine",
            new.name,
            others.join(", ")
        );
    }
    Ok(())
}

/// Installs the packages on the new machine while the old one serves: that takes longer than the move of a small database.
///
/// # Errors
/// As [`Target::before`].
pub(super) fn packages(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey) -> Result<()> {
    let Some(new) = carrying(target.project, survey, Tier::Database) else { return Ok(()) };
    let desired = Box::new(Desired { packages: target.before(new)?.packages, ..Desired::default() });
    let steps = steps(&desired, &new.facts);
    if !steps.is_empty() {
        plan.stage([Operation::on(&new.name, Action::Converge { desired, data: None, steps })]);
    }
    Ok(())
}

/// Stops the database where it is, after the end of its write-ahead log is archived.
pub(super) fn stop(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey) {
    let Some(known) = data::recorded(target, survey) else { return };
    let mut reached = survey.machines.iter().chain(survey.leaving.iter().map(|it| &it.surveyed));
    if reached.any(|it| it.name == known.machine) {
        plan.stage([Operation::on(&known.machine, Action::StopDatabase)]);
    } else {
        plan.notes.push(format!(
            "{} cannot be reached: what it committed and did not archive is not moved; switch it off, so that it does not come back",
            known.machine
        ));
    }
}

/// Completes an interrupted replacement on the new machine, whose PostgreSQL may have no data directory until then.
pub(super) fn complete(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey) {
    let new = carrying(target.project, survey, Tier::Database);
    if let Some((new, there)) = new.and_then(|it| Some((it, interrupted(it)?))) {
        let action = Action::ReplaceDatabase { target: there.target.clone() };
        plan.stage([Operation::on(&new.name, action)]);
        plan.stage([Operation::on(&new.name, Action::CompleteReplacement)]);
    }
}

/// Has the new machine start with the data, unless an interrupted move has brought it there: it may have new data by now.
pub(super) fn bring(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey) {
    let Some(new) = carrying(target.project, survey, Tier::Database) else { return };
    let known = data::recorded(target, survey).map(|it| &it.cluster);
    let is_there = new.facts.cluster.as_ref().map(|it| &it.identifier) == known;
    if is_there || interrupted(new).is_some() {
        return;
    }
    let to = Replaced::By(RecoveryTarget::Latest);
    plan.stage([Operation::on(&new.name, Action::PrepareReplacement { target: to.clone() })]);
    plan.stage([Operation::on(&new.name, Action::ReplaceDatabase { target: to })]);
    plan.stage([Operation::on(&new.name, Action::CompleteReplacement)]);
    plan.notes.push(format!(
        "the data on the old machine stays there; the empty cluster of {} stays until `tercet restore --drop`",
        new.name
    ));
}

/// The replacement of a machine's database that was interrupted while the data directories changed places.
pub(super) fn interrupted(machine: &Surveyed) -> Option<&Replacement> {
    machine.report.replacement.as_ref().filter(|it| it.phase == Phase::Replacing)
}

/// Refuses to converge a PostgreSQL whose data directories are changing places.
pub(super) fn check_complete(target: &Target<'_>, survey: &Survey) -> Result<()> {
    let database = carrying(target.project, survey, Tier::Database);
    match database.and_then(|it| Some((it, interrupted(it)?))) {
        Some((machine, there)) => bail!(
            "{}: a replacement of its database, begun at {}, is half done\nhint: run the same `tercet restore` or `tercet move` again, which completes it",
            machine.name,
            there.since
        ),
        None => Ok(()),
    }
}
