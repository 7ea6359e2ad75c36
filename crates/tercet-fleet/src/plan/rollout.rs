//! The application servers, one after the other, each replaced behind the balancer: new beside old, ready, in rotation,
//! old out and stopped. Two of them never change at once.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tercet_config::{Part, Tier};
use tercet_machine::plan as steps;

use super::{ExecutionPlan, Target, parts};
use crate::deployment::Instance;
use crate::desired::{rotation, running};
use crate::operation::{Action, Operation};
use crate::release::Release;
use crate::survey::Survey;

/// Adds the operations from what serves to what is to serve.
pub(super) fn add(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey) -> Result<()> {
    if target.now.serving.is_empty() {
        return first(plan, target, survey);
    }
    let mut serving = target.now.serving.clone();
    for part in parts(target.project) {
        let (old, new) = (serving.get(&part.name).cloned(), &target.serving[&part.name]);
        if old.as_ref() == Some(new) {
            continue;
        }
        plan.stage([start(target, part, new)]);
        plan.stage([await_ready(target, part, new, &target.release)?]);
        let before = Box::new(rotation(target.project, &target.with_releases(&serving)));
        serving.insert(part.name.clone(), new.clone());
        let desired = Box::new(rotation(target.project, &target.with_releases(&serving)));
        plan.stage(balancers(target).map(|machine| {
            Operation::on(
                machine,
                Action::Rotate {
                    part: part.name.clone(),
                    to: Some(new.clone()),
                    desired: desired.clone(),
                    from: old.clone(),
                    before: before.clone(),
                },
            )
        }));
        plan.stage(await_rotation(target, vec![new.clone()]));
        if let Some(old) = old {
            let release = target.now.release(&old.release).unwrap_or(&target.release);
            let ready = ready(target, part, &old, release)?;
            let machine = &target.project.topology.machine_of(part).name;
            plan.stage([Operation::on(machine, Action::Stop { instance: old, ready })]);
        }
    }
    Ok(())
}

/// Nothing serves yet: all servers start at the same time, and the balancer when they are ready.
fn first(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey) -> Result<()> {
    plan.stage(parts(target.project).map(|part| start(target, part, &target.serving[&part.name])));
    let waits = parts(target.project)
        .map(|part| await_ready(target, part, &target.serving[&part.name], &target.release))
        .collect::<Result<Vec<_>>>()?;
    plan.stage(waits);
    let serving = target.with_releases(&target.serving);
    for machine in survey.machines.iter().filter(|machine| balancers(target).any(|it| it == machine.name)) {
        let desired =
            target.project.desired(target.machine(&machine.name)?, &machine.system, &serving, &serving);
        // What is done before is not to be shown again.
        let before = steps(&target.before(machine)?, &machine.facts);
        let steps = steps(&desired, &machine.facts)
            .into_iter()
            .filter(|step| !before.contains(step) && step.to_string().contains("balancer"))
            .collect();
        plan.stage([Operation::on(
            &machine.name,
            Action::Converge { desired: Box::new(desired), data: None, steps },
        )]);
    }
    plan.stage(await_rotation(target, target.serving.values().cloned().collect()));
    Ok(())
}

fn start(target: &Target<'_>, part: &Part, instance: &Instance) -> Operation {
    let machine = target.project.topology.machine_of(part);
    let desired = Box::new(running(target.project, machine, instance, &target.release));
    let expects = target.release.record();
    Operation::on(&machine.name, Action::Start { instance: instance.clone(), desired, expects })
}

fn await_ready(
    target: &Target<'_>,
    part: &Part,
    instance: &Instance,
    release: &Release,
) -> Result<Operation> {
    let (address, path) = ready(target, part, instance, release)?;
    let machine = &target.project.topology.machine_of(part).name;
    Ok(Operation::on(machine, Action::AwaitReady { instance: instance.clone(), address, path }))
}

/// Where an instance says that it is ready.
fn ready(
    target: &Target<'_>,
    part: &Part,
    instance: &Instance,
    release: &Release,
) -> Result<(SocketAddr, Option<String>)> {
    let edges = target.project.topology.edges();
    let edge = edges.iter().find(|edge| edge.to.name == part.name);
    let host = edge.with_context(|| format!("{}: no edge of the topology leads to it", part.name))?.address;
    let port = release.health_port(instance.port).unwrap_or(instance.port);
    Ok((SocketAddr::new(host, port), release.health_path().map(str::to_owned)))
}

fn await_rotation(target: &Target<'_>, instances: Vec<Instance>) -> impl Iterator<Item = Operation> {
    balancers(target)
        .map(move |machine| Operation::on(machine, Action::AwaitRotation { instances: instances.clone() }))
}

fn balancers<'t>(target: &Target<'t>) -> impl Iterator<Item = &'t str> + use<'t> {
    let machines = target.project.topology.machines().iter();
    machines.filter(|it| it.tiers.contains(&Tier::Balancer)).map(|machine| machine.name.as_str())
}
