//! The application servers, one after the other or in groups (`rollout`), each replaced behind the balancer: new beside old, ready,
//! in rotation, old out and stopped. A server of a machine that left the file is replaced like any
//! other, or taken out of rotation when no part of the file takes its name.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Result;
use tercet_config::{Part, Tier};
use tercet_machine::plan as steps;

use super::{ExecutionPlan, Target, parts};
use crate::deployment::Placed;
use crate::desired::{rotation, running};
use crate::instance::Instance;
use crate::operation::{Action, Operation, Readiness};
use crate::release::Release;
use crate::survey::Survey;

/// Adds the operations from the deployed to the desired application servers.
pub(super) fn add(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey) -> Result<()> {
    if target.now.serving.is_empty() {
        return first(plan, target, survey);
    }
    let mut roll = Roll { plan, target, serving: target.now.serving.clone() };
    let topology = target.project.topology;
    for application in topology.applications() {
        let changed: Vec<&Part> = topology
            .servers_of(application)
            .filter(|part| {
                !roll.serving.get(&part.name).is_some_and(|old| old.is(&target.serving[&part.name]))
            })
            .collect();
        let at_once = application.rollout.servers_of(topology.servers_of(application).count());
        for group in changed.chunks(at_once) {
            roll.replace(group);
        }
    }
    let retired: Vec<String> = roll.serving.keys().filter(|name| !target.is_part(name)).cloned().collect();
    for name in retired {
        roll.retire(&name);
    }
    Ok(())
}

/// Takes out of rotation what no machine knows that could be reached, before anything it needs is taken from it.
pub(super) fn drop_unknown(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey) {
    if target.now.serving.is_empty() {
        return;
    }
    let desired = Box::new(rotation(target.project, &target.with_releases(&target.now.serving)));
    for name in &target.now.unknown {
        let knows = |machine: &&str| {
            let report = survey.machines.iter().find(|it| it.name == **machine).map(|it| &it.report);
            report.is_some_and(|report| report.serving.contains_key(name))
        };
        let machines: Vec<&str> = balancers(target).filter(knows).collect();
        let on = |action: Action| machines.iter().map(move |machine| Operation::on(machine, action.clone()));
        plan.stage(on(Action::Rotate {
            part: name.clone(),
            to: None,
            desired: desired.clone(),
            from: None,
            before: desired.clone(),
        }));
        plan.stage(on(Action::AwaitRotation { servers: Vec::new(), gone: vec![name.clone()] }));
    }
}

/// A walk, and what serves at each of its steps.
struct Roll<'w, 't, 'p> {
    plan: &'w mut ExecutionPlan,
    target: &'t Target<'p>,
    serving: BTreeMap<String, Placed>,
}

impl Roll<'_, '_, '_> {
    /// Replaces the servers of some parts: the new ones start at the same time, and the old ones stop at the same time.
    fn replace(&mut self, group: &[&Part]) {
        let target = self.target;
        let new: Vec<&Placed> = group.iter().map(|part| &target.serving[&part.name]).collect();
        for new in &new {
            let holds_the_port =
                |it: &Placed| it.machine == new.machine && it.address.port() == new.address.port();
            let retired = self.serving.iter().find(|(name, it)| !target.is_part(name) && holds_the_port(it));
            if let Some(name) = retired.map(|(name, _)| name.clone()) {
                self.retire(&name);
            }
            clear(self.plan, target, new);
        }
        self.plan.stage(new.iter().map(|new| start(target, new)));
        self.plan.stage(new.iter().map(|new| await_ready(new, target.release_of(new))));
        let mut old = Vec::new();
        for (part, new) in group.iter().zip(new) {
            old.extend(self.serving.get(&part.name).cloned());
            self.rotate(&part.name, Some(new));
        }
        let stops: Vec<Operation> = old.into_iter().map(|old| self.stop(old)).collect();
        self.plan.stage(stops);
    }

    /// Has the balancer hand a part's requests to `to`, or to none.
    fn rotate(&mut self, part: &str, to: Option<&Placed>) {
        let target = self.target;
        let before = Box::new(rotation(target.project, &target.with_releases(&self.serving)));
        let from = match to {
            Some(to) => self.serving.insert(part.to_owned(), to.clone()),
            None => self.serving.remove(part),
        };
        let desired = Box::new(rotation(target.project, &target.with_releases(&self.serving)));
        let action = Action::Rotate { part: part.to_owned(), to: to.cloned(), desired, from, before };
        self.plan.stage(balancers(target).map(|machine| Operation::on(machine, action.clone())));
        let gone = if to.is_none() { vec![part.to_owned()] } else { Vec::new() };
        let servers = to.map(|to| (part.to_owned(), to.address)).into_iter().collect();
        self.plan.stage(await_rotation(target, servers, gone));
    }

    /// Takes a server out of rotation and stops it.
    fn retire(&mut self, name: &str) {
        let Some(old) = self.serving.get(name).cloned() else { return };
        self.rotate(name, None);
        let stop = self.stop(old);
        self.plan.stage([stop]);
    }

    fn stop(&self, old: Placed) -> Operation {
        let target = self.target;
        let readiness = readiness(&old, target.release_of(&old));
        Operation::on(&old.machine, Action::Stop { instance: old.instance, readiness })
    }
}

/// Nothing serves yet: all servers start at the same time, and the balancer when they are ready.
fn first(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey) -> Result<()> {
    let all: Vec<&Placed> = parts(target.project).map(|part| &target.serving[&part.name]).collect();
    for placed in &all {
        clear(plan, target, placed);
    }
    plan.stage(all.iter().map(|placed| start(target, placed)));
    plan.stage(all.iter().map(|placed| await_ready(placed, target.release_of(placed))));
    let serving = target.with_releases(&target.serving);
    for machine in survey.machines.iter().filter(|machine| balancers(target).any(|it| it == machine.name)) {
        let desired = target.project.desired(
            target.machine(&machine.name)?,
            &machine.system,
            &serving,
            &serving,
            &[],
        )?;
        // Steps of earlier operations are not shown again.
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
    let servers =
        parts(target.project).map(|part| (part.name.clone(), target.serving[&part.name].address)).collect();
    plan.stage(await_rotation(target, servers, Vec::new()));
    Ok(())
}

/// Removes what an earlier apply left running on the port of `new`.
fn clear(plan: &mut ExecutionPlan, target: &Target<'_>, new: &Placed) {
    let serves = |it: &Instance| {
        target.now.serving.values().any(|placed| placed.machine == new.machine && placed.instance == *it)
    };
    let others = target.now.on(target.project.topology, &new.machine);
    let instances: Vec<Instance> = others
        .filter(|it| it.port == new.instance.port && **it != new.instance && !serves(it))
        .cloned()
        .collect();
    if !instances.is_empty() {
        plan.stage([Operation::on(&new.machine, Action::CleanUp { instances, paths: Vec::new() })]);
    }
}

fn start(target: &Target<'_>, placed: &Placed) -> Operation {
    let machine = target.machine(&placed.machine).expect("a part is on a machine of the file");
    let release = target.release_of(placed);
    let desired = Box::new(running(target.project, machine, &placed.instance, release));
    let expects = release.record();
    Operation::on(&machine.name, Action::Start { instance: placed.instance.clone(), desired, expects })
}

fn await_ready(placed: &Placed, release: &Release) -> Operation {
    let readiness = readiness(placed, release);
    Operation::on(&placed.machine, Action::AwaitReady { instance: placed.instance.clone(), readiness })
}

/// The readiness check of an instance.
fn readiness(placed: &Placed, release: &Release) -> Readiness {
    let port = placed.address.port();
    let port = release.health_port(port).unwrap_or(port);
    Readiness {
        address: SocketAddr::new(placed.address.ip(), port),
        path: release.health_path().map(str::to_owned),
        seconds: release.start_seconds(),
    }
}

fn await_rotation(
    target: &Target<'_>,
    servers: Vec<(String, SocketAddr)>,
    gone: Vec<String>,
) -> impl Iterator<Item = Operation> {
    let action = Action::AwaitRotation { servers, gone };
    balancers(target).map(move |machine| Operation::on(machine, action.clone()))
}

pub(super) fn balancers<'t>(target: &Target<'t>) -> impl Iterator<Item = &'t str> + use<'t> {
    let machines = target.project.topology.machines().iter();
    machines.filter(|it| it.tiers.contains(&Tier::Balancer)).map(|machine| machine.name.as_str())
}
