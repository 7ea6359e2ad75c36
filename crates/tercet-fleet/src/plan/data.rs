//! A project's data is never taken for another's, and never left behind in silence.
//!
//! Where the project has had data, a database that would start empty is not converged: on another machine, under another
//! name, on a machine that was replaced. The plan stops and names the ways on.

use anyhow::{Result, bail};
use tercet_config::Tier;

use super::{ExecutionPlan, Target};
use crate::identity::Data;
use crate::intent::Consent;
use crate::operation::{Action, Operation};
use crate::survey::{Survey, Surveyed};

/// Refuses a database that is not the one the project's data is in.
pub(super) fn check(target: &Target<'_>, survey: &Survey) -> Result<()> {
    let Some((machine, name)) = database(target, survey) else { return Ok(()) };
    let Some(data) = recorded(target, survey) else { return Ok(()) };
    let refuse = |what: String| {
        bail!(
            "{}: {what}\nthe project's data is in {data}\nhint: put `name` and the database's machine in tercet.toml back to what \
             they were, or move the data there (`tercet move database --to {}`); `tercet apply --new-database` starts with an \
             empty one and leaves the old as it is",
            machine.name,
            machine.name
        )
    };
    if data.database != name {
        return refuse(format!("database {name} would start empty"));
    }
    let installed = machine.facts.packages.keys().any(|package| package.starts_with("postgresql-"));
    match &machine.facts.cluster {
        Some(cluster) if cluster.identifier != data.cluster => {
            refuse(format!("its PostgreSQL cluster is another one, {}", cluster.identifier))
        }
        Some(cluster) if !cluster.databases.contains_key(name) => {
            refuse(format!("there is no database {name} in its PostgreSQL cluster any more"))
        }
        None if !installed => refuse("PostgreSQL is not installed on it: it would start empty".to_owned()),
        // A cluster that does not run now is looked at by the machine itself when it does.
        _ => Ok(()),
    }
}

/// Refuses an existing database that no machine records as the project's: one that `destroy` kept, or one that was created
/// by hand.
pub(super) fn check_unowned(target: &Target<'_>, survey: &Survey, consent: Consent) -> Result<()> {
    let Some((machine, name)) = database(target, survey).filter(|_| !consent.take_over) else {
        return Ok(());
    };
    let ours =
        machine.report.identity.as_ref().is_some_and(|it| it.project == target.project.secrets.project);
    let Some(cluster) = machine.facts.cluster.as_ref().filter(|it| it.databases.contains_key(name)) else {
        return Ok(());
    };
    let known = recorded(target, survey);
    if ours || known.is_some_and(|data| data.cluster == cluster.identifier && data.database == name) {
        return Ok(());
    }
    bail!(
        "{}: its PostgreSQL has a database {name} already, which belongs to no project: `tercet destroy` kept it, or it was created by \
         hand\nhint: `tercet apply --take-over` makes it this project's, with its data; else give the project another `name`",
        machine.name
    )
}

/// Adds what writes down on every machine where the data is; it is only known when PostgreSQL runs.
pub(super) fn record(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey) {
    let Some((machine, name)) = database(target, survey) else { return };
    let identifier = machine.facts.cluster.as_ref().map(|cluster| cluster.identifier.as_str());
    let is_known = |data: Option<&Data>| {
        data.is_some_and(|it| {
            it.database == name && it.machine == machine.name && Some(it.cluster.as_str()) == identifier
        })
    };
    let known = survey
        .machines
        .iter()
        .all(|it| is_known(it.report.identity.as_ref().and_then(|it| it.data.as_ref())));
    if known && is_known(target.project.secrets.data.as_ref()) {
        return;
    }
    let action = || Action::RecordData { from: machine.name.clone(), database: name.to_owned() };
    plan.stage(survey.machines.iter().map(|machine| Operation::on(&machine.name, action())));
}

/// Where the project's data is, by what the operator or any machine knows.
pub(crate) fn recorded<'s>(target: &'s Target<'_>, survey: &'s Survey) -> Option<&'s Data> {
    let identities = survey.machines.iter().filter_map(|machine| machine.report.identity.as_ref());
    let mut ours = identities.filter(|identity| identity.project == target.project.secrets.project);
    target.project.secrets.data.as_ref().or_else(|| ours.find_map(|identity| identity.data.as_ref()))
}

/// The machine of the project's own database, and the database's name.
fn database<'s>(target: &Target<'s>, survey: &'s Survey) -> Option<(&'s Surveyed, &'s str)> {
    let topology = target.project.topology;
    let part = topology.parts().iter().find(|part| part.tier == Tier::Database)?;
    let machine = &topology.machine_of(part).name;
    let machine = survey.machines.iter().find(|it| it.name == *machine)?;
    Some((machine, topology.name()))
}
