//! All machines of a project, taken down: clients find a closed port first, the database is last.

use tercet_config::Tier;
use tercet_database::roles::AUTHENTICATOR;
use tercet_machine::cluster::{Cluster, Role};
use tercet_machine::{Desired, plan as steps};

use super::ExecutionPlan;
use super::leaving::{note_unreached, retire, whole};
use crate::desired::Project;
use crate::operation::{Action, Operation};
use crate::survey::{Survey, Surveyed};

/// What there is to do; with `with_data` the project's database goes, too.
pub(super) fn plan(project: &Project<'_>, survey: &Survey, with_data: bool) -> ExecutionPlan {
    let mut plan = ExecutionPlan::default();
    let machines: Vec<&Surveyed> = survey.leaving.iter().map(|it| &it.surveyed).collect();
    plan.stage(machines.iter().filter_map(|machine| {
        let units = whole(&machine.report).units_only(|name| name.starts_with("tercet-balancer."));
        retire(machine, "stop the balancer: clients find a closed port", units)
    }));
    plan.stage(machines.iter().filter_map(|machine| {
        let units = whole(&machine.report).units_only(|name| name.starts_with("tercet-app-"));
        retire(machine, "stop the application servers", units)
    }));
    let (databases, others): (Vec<&Surveyed>, Vec<&Surveyed>) =
        machines.iter().partition(|machine| machine.report.inventory.cluster.is_some());
    for machine in &databases {
        if with_data {
            plan.stage(drop_database(project, machine));
        } else {
            plan.stage(lock(machine));
            plan.notes.push(format!(
                "{}: THE DATA STAYS: PostgreSQL goes on as the machine's own, for connections from the machine itself; --with-data \
                 drops the project's database",
                machine.name
            ));
        }
    }
    let all = "remove all that tercet made here, the firewall last";
    plan.stage(others.iter().filter_map(|machine| retire(machine, all, whole(&machine.report))));
    plan.stage(databases.iter().filter_map(|machine| retire(machine, all, whole(&machine.report))));
    plan.stage(others.iter().map(|machine| Operation::on(&machine.name, Action::Erase)));
    plan.stage(databases.iter().map(|machine| Operation::on(&machine.name, Action::Erase)));
    if !machines.is_empty() {
        plan.notes.push("installed packages stay".to_owned());
    }
    note_unreached(&mut plan, survey, "destroy");
    if with_data {
        let lost = survey.unreached.iter().filter(|it| it.remembered.machine.tiers.contains(&Tier::Database));
        for it in lost {
            let name = &it.remembered.machine.name;
            plan.notes.push(format!("{name}: its data stays, since it cannot be reached"));
        }
    }
    plan
}

/// Drops the project's database, identified by the recorded data.
fn drop_database(project: &Project<'_>, machine: &Surveyed) -> Option<Operation> {
    let known = machine.report.identity.as_ref().and_then(|identity| identity.data.as_ref());
    let data = known.or(project.secrets.data.as_ref())?.clone();
    let port = machine.report.inventory.cluster?;
    let cluster = machine.facts.cluster.as_ref()?;
    let is_there = cluster.identifier == data.cluster && cluster.databases.contains_key(&data.database);
    is_there.then(|| Operation::on(&machine.name, Action::DropDatabase { data, port }))
}

/// The password that application servers had opens nothing any more.
fn lock(machine: &Surveyed) -> Option<Operation> {
    machine.facts.cluster.as_ref()?;
    let desired = Desired { cluster: Some(locked(machine.report.inventory.cluster?)), ..Desired::default() };
    let steps = steps(&desired, &machine.facts);
    let what = "take the application servers' password from the database";
    (!steps.is_empty())
        .then(|| Operation::on(&machine.name, Action::Retire { what, desired: Box::new(desired), steps }))
}

/// A cluster in which the application servers' role cannot log in.
pub(crate) fn locked(port: u16) -> Cluster {
    let role = Role {
        name: AUTHENTICATOR.to_owned(),
        login: false,
        inherit: false,
        member_of: Vec::new(),
        verifier: None,
        settings: std::collections::BTreeMap::new(),
    };
    Cluster { port, place: None, roles: vec![role], databases: Vec::new(), privileged: None }
}
