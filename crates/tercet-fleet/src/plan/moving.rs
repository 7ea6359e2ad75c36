//! The database moves to another machine: PostgreSQL stops on the old one when all of its write-ahead log is in the archive,
//! and the new one starts with a copy that is recovered to the end of it.

use anyhow::{Context as _, Result, bail, ensure};
use tercet_config::Tier;
use tercet_database::RecoveryTarget;

use super::backup::{carrying, record};
use super::{ExecutionPlan, Target, data};
use crate::backup::copy::candidates;
use crate::backup::replace::Replaced;
use crate::operation::{Action, Operation};
use crate::survey::Survey;

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
    let (_, record) = record(target.project, survey)
        .context("a move needs backups: it restores the database on the new machine\nhint: give a machine the tier \"backup\" and apply first")?;
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

/// Has the new machine start with the data.
pub(super) fn bring(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey) {
    let Some(new) = carrying(target.project, survey, Tier::Database) else { return };
    let to = Replaced::By(RecoveryTarget::Latest);
    plan.stage([Operation::on(&new.name, Action::PrepareReplacement { target: to.clone() })]);
    plan.stage([Operation::on(&new.name, Action::ReplaceDatabase { target: to })]);
    plan.notes.push(format!(
        "the data on the old machine stays there; the empty cluster of {} stays until `tercet restore --drop`",
        new.name
    ));
}
