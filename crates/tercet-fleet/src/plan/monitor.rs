//! The monitoring in a plan: what must be there before its packages are installed, and what a monitor does not see.

use tercet_config::Tier;
use tercet_machine::plan as steps;

use super::{ExecutionPlan, Target};
use crate::desired::monitor;
use crate::operation::{Action, Operation};
use crate::survey::Survey;

/// Adds what keeps Debian's units from starting when their packages are installed: they would listen on all addresses.
pub(super) fn before_packages(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey) {
    let topology = target.project.topology;
    let operations = survey.machines.iter().filter_map(|surveyed| {
        let machine = topology.machines().iter().find(|it| it.name == surveyed.name)?;
        let is_installed = |package: &str| surveyed.facts.packages.contains_key(package);
        let desired = monitor::before_packages(topology, machine, is_installed);
        let steps = steps(&desired, &surveyed.facts);
        let desired = Box::new(desired);
        (!steps.is_empty())
            .then(|| Operation::on(&surveyed.name, Action::Converge { desired, data: None, steps }))
    });
    plan.stage(operations);
}

/// Notes what no alert would tell: without a receiver, and when the monitor's machine fails.
pub(super) fn note_silence(plan: &mut ExecutionPlan, target: &Target<'_>) {
    let topology = target.project.topology;
    let Some(machine) = topology.carrying(Tier::Monitor) else { return };
    let alerts = topology.alerts();
    if alerts.to.is_empty() {
        plan.notes.push(
            "alerts are sent nowhere: `tercet alerts` shows them\n  hint: name receivers, to = [\"webhook:…\"] in [alerts]"
                .to_owned(),
        );
    }
    if machine.tiers.len() == 1 || alerts.heartbeat.is_some() {
        return;
    }
    let others: Vec<String> =
        machine.tiers.iter().filter(|tier| **tier != Tier::Monitor).map(ToString::to_string).collect();
    plan.notes.push(format!(
        "the monitor shares {} with {}: when that machine fails, no alert is sent\n  hint: give another machine the tier \"monitor\", or \
         name a `heartbeat` in [alerts]: its service calls you when the monitor is silent",
        machine.name,
        others.join(" and ")
    ));
}
