//! The removal of machines that are no longer in the file, and of resources that machines of the file no longer need.
//!
//! A machine that leaves goes out of rotation and finishes its requests (the rollout does that); then its units stop,
//! the database lets it in no more, and all that was ever made on it goes, the firewall last and whose it is after that.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Result, bail};
use tercet_config::{Machine, Tier};
use tercet_machine::firewall::Firewall;
use tercet_machine::inventory::Before;
use tercet_machine::{Desired, Inventory, plan as steps};

use super::{ExecutionPlan, Target, parts};
use crate::desired::{TemporaryEdge, monitor};
use crate::intent::Consent;
use crate::operation::{Action, Operation};
use crate::paths::{CONFIGURATION, CREDENTIALS, CREDENTIALS_PREFIX, LIBRARY, MAINTENANCE};
use crate::report::Report;
use crate::survey::{Survey, Surveyed};

/// Everything recorded on a machine except the binary that removes it.
pub(crate) fn whole(report: &Report) -> Inventory {
    let mut all = report.inventory.clone();
    let instances = report.instances.iter().map(|(instance, _)| instance.unit());
    let others = report.units.keys().filter(|name| name.starts_with("tercet-")).cloned();
    for name in instances.chain(others) {
        all.files.insert(Path::new("/etc/systemd/system").join(&name), Before::Absent);
        all.units.entry(name).or_default();
    }
    if report.identity.is_some() {
        all.firewall = true;
        let boot = Firewall::boot_unit().path;
        all.files.insert(boot, Before::Absent);
        all.units.entry(Firewall::BOOT_UNIT.to_owned()).or_default();
        all.files.insert(MAINTENANCE.into(), Before::Absent);
        all.directories.insert(CONFIGURATION.into(), Before::Absent);
    }
    all.directories.retain(|path, _| !path.starts_with(LIBRARY));
    all
}

/// What was made on a machine of the file and is not needed once everything else is done. What changes with every
/// release is the retention's.
pub(super) fn leftover(target: &Target<'_>, machine: &Surveyed) -> Result<Inventory> {
    let mut left = machine.report.inventory.without(&Inventory::of(&target.after(machine)?));
    for (instance, _) in &machine.report.instances {
        let name = instance.unit();
        left.files.remove(&Path::new("/etc/systemd/system").join(&name));
        left.units.remove(&name);
    }
    let is_credential = |path: &Path| {
        let below = path.strip_prefix(CREDENTIALS).ok().and_then(|path| path.iter().next());
        below.is_some_and(|folder| folder.to_string_lossy().starts_with(CREDENTIALS_PREFIX))
    };
    left.files.retain(|path, _| !is_credential(path));
    left.directories.retain(|path, _| !is_credential(path));
    let place = target.machine(&machine.name)?;
    let outdated = monitor::outdated(target.project.topology, place);
    left.files.extend(outdated.into_iter().map(|path| (path, Before::Absent)));
    Ok(left)
}

/// A desired state in which `inventory` is gone.
pub(crate) fn gone(inventory: Inventory) -> Desired {
    Desired { retired: inventory, ..Desired::default() }
}

/// Taking `inventory` away from a machine, if there is anything of it.
pub(super) fn retire(machine: &Surveyed, what: &'static str, inventory: Inventory) -> Option<Operation> {
    let desired = gone(inventory);
    let steps = steps(&desired, &machine.facts);
    (!steps.is_empty())
        .then(|| Operation::on(&machine.name, Action::Retire { what, desired: Box::new(desired), steps }))
}

/// The connections that stay open until the application servers are rolled.
pub(super) fn temporary_edges(target: &Target<'_>, survey: &Survey) -> Vec<TemporaryEdge> {
    let topology = target.project.topology;
    let mut edges = Vec::new();
    let carrying = |tier: Tier| {
        survey.leaving.iter().map(|it| &it.remembered.machine).filter(move |it| it.tiers.contains(&tier))
    };
    let database = topology.parts().iter().find(|part| part.tier == Tier::Database);
    let end = |machine: &Machine| (machine.name.clone(), machine.address);
    let serves = |name: &str| target.now.serving.values().any(|it| it.machine == name);
    for machine in carrying(Tier::Application).filter(|it| serves(&it.name)) {
        if let Some(part) = database {
            edges.push(TemporaryEdge {
                from: end(machine),
                client: Tier::Application,
                to: end(topology.machine_of(part)),
                tier: Tier::Database,
                port: part.port.number,
            });
        }
    }
    let balancers = topology.machines().iter().filter(|it| it.tiers.contains(&Tier::Balancer));
    for from in balancers.chain(carrying(Tier::Balancer)) {
        for placed in target.now.serving.values().filter(|it| it.machine != from.name) {
            let release = target.release_of(placed);
            let port = placed.instance.port;
            let part = parts(target.project)
                .find(|it| topology.machine_of(it).name == placed.machine && it.ports().contains(&port));
            if part.is_some() && topology.machines().iter().any(|it| it.name == from.name) {
                continue;
            }
            let all = topology.machines().iter().chain(carrying(Tier::Application));
            let Some(to) = all.into_iter().find(|it| it.name == placed.machine) else { continue };
            edges.extend([port].into_iter().chain(release.health_port(port)).map(|port| TemporaryEdge {
                from: end(from),
                client: Tier::Balancer,
                to: end(to),
                tier: Tier::Application,
                port,
            }));
        }
    }
    edges
}

/// Refuses to remove tercet's configuration from the PostgreSQL that has the project's data.
pub(super) fn check(target: &Target<'_>, survey: &Survey, consent: Consent) -> Result<()> {
    if consent.new_database || consent.move_database {
        return Ok(());
    }
    let leaving = survey.leaving.iter().map(|it| (&it.surveyed.name, it.surveyed.report.inventory.cluster));
    let mut without: Vec<_> = leaving.collect();
    for machine in &survey.machines {
        without.push((&machine.name, leftover(target, machine)?.cluster));
    }
    match without.into_iter().find(|(_, cluster)| cluster.is_some()) {
        Some((name, _)) => bail!(
            "{name}: its PostgreSQL has the project's data, and tercet.toml has no database there any more\n\
             hint: give the machine its tier back, or move the data to another machine (`tercet move database --to NAME`); `tercet apply \
             --new-database` leaves it as it is, without a connection from outside"
        ),
        None => Ok(()),
    }
}

/// Adds the operations after which no machine has anything that is not wanted.
pub(super) fn add(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey) -> Result<()> {
    let leaving = || survey.leaving.iter().map(|it| &it.surveyed);
    plan.stage(leaving().filter_map(|machine| {
        let units = whole(&machine.report).units_only(|name| name != Firewall::BOOT_UNIT);
        retire(machine, "stop its services and remove their units", units)
    }));
    close(plan, target, survey)?;
    end_sessions(plan, target, survey);
    for machine in &survey.machines {
        plan.stage(retire(machine, "remove what is no longer used here", leftover(target, machine)?));
    }
    plan.stage(leaving().filter_map(|machine| {
        retire(machine, "remove all that tercet made here, the firewall last", whole(&machine.report))
    }));
    plan.stage(leaving().map(|machine| Operation::on(&machine.name, Action::Erase)));
    if leaving().next().is_some() {
        plan.notes.push("installed packages stay on the machines that leave".to_owned());
    }
    Ok(())
}

/// Closes the temporary edges.
fn close(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey) -> Result<()> {
    let mut operations = Vec::new();
    for machine in &survey.machines {
        let open = target.before(machine)?;
        let closed = target.without_temporary_edges(machine)?;
        if open == closed {
            continue;
        }
        let shown = steps(&open, &machine.facts);
        let steps = steps(&closed, &machine.facts).into_iter().filter(|step| !shown.contains(step)).collect();
        let action = Action::Converge { desired: Box::new(target.after(machine)?), data: None, steps };
        operations.push(Operation::on(&machine.name, action));
    }
    plan.stage(operations);
    Ok(())
}

/// PostgreSQL asks `pg_hba.conf` only when a session begins.
fn end_sessions(plan: &mut ExecutionPlan, target: &Target<'_>, survey: &Survey) {
    let topology = target.project.topology;
    let Some(part) = topology.parts().iter().find(|part| part.tier == Tier::Database) else { return };
    let lost = survey.unreached.iter().filter(|it| it.remembered.cut_off.is_none()).map(|it| &it.remembered);
    let gone = survey.leaving.iter().map(|it| &it.remembered).chain(lost).chain(&survey.moved);
    let from: BTreeMap<String, IpAddr> = gone
        .map(|it| &it.machine)
        .filter(|it| it.tiers.contains(&Tier::Application))
        .filter(|it| !topology.machines().iter().any(|other| other.address == it.address))
        .map(|it| (it.name.clone(), it.address))
        .collect();
    if from.is_empty() {
        return;
    }
    let action = Action::EndSessions { from: from.into_iter().collect(), port: part.port.number };
    plan.stage([Operation::on(&topology.machine_of(part).name, action)]);
}

/// Notes what remains on unreachable machines, and what to do about it.
pub(super) fn note_unreached(plan: &mut ExecutionPlan, survey: &Survey, verb: &str) {
    for unreached in &survey.unreached {
        let machine = &unreached.remembered.machine;
        let tiers: Vec<String> = machine.tiers.iter().map(ToString::to_string).collect();
        let has = |tier| machine.tiers.contains(&tier);
        let mut left = Vec::new();
        if has(Tier::Application) {
            left.push("the database's password, the client certificate and the token secret in /etc/tercet/credentials");
        }
        if has(Tier::Balancer) {
            left.push("the balancer's certificates and keys in /etc/tercet/credentials");
        }
        if has(Tier::Database) {
            left.push("PostgreSQL with its data, and its key in /etc/tercet/postgresql");
        }
        if has(Tier::Backup) {
            left.push("the backups in /var/lib/tercet-backup, and its key in /etc/tercet/backup");
        }
        if has(Tier::Monitor) {
            left.push("the history of the metrics in /var/lib/tercet-prometheus, and the addresses of receivers in /etc/tercet/credentials");
        }
        plan.notes.push(format!(
            "{} ({}, {}) left the project and could not be cleaned up: {}\n  still there: {}; its services, which start at boot\n  hint: {verb} again when it can be reached; if it is in other hands, change the secrets it has; `--forget {}` \
             stops asking",
            machine.name,
            machine.address,
            tiers.join(", "),
            unreached.why,
            left.join("; "),
            machine.name,
        ));
    }
}

impl Target<'_> {
    /// What a machine should be before the application servers are rolled, the temporary edges closed.
    fn without_temporary_edges(&self, machine: &Surveyed) -> Result<Desired> {
        self.before_with(machine, &[])
    }

    /// What a machine should be before the application servers are rolled, with these temporary edges.
    pub(super) fn before_with(&self, machine: &Surveyed, temporary: &[TemporaryEdge]) -> Result<Desired> {
        let serving = self.with_releases(&self.now.serving);
        let kept: Vec<_> = serving
            .iter()
            .filter(|it| self.serving.get(&it.name).is_some_and(|new| new.is(&it.placed)))
            .cloned()
            .collect();
        let place = self.machine(&machine.name)?;
        self.project.desired(place, &machine.system, &serving, &kept, temporary)
    }

    /// What a machine should be when everything is done.
    pub(super) fn after(&self, machine: &Surveyed) -> Result<Desired> {
        let serving = self.with_releases(&self.serving);
        self.project.desired(self.machine(&machine.name)?, &machine.system, &serving, &serving, &[])
    }
}
