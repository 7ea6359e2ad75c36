//! From what is to what the file says: plan, then converge, migrate, roll.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use tercet_config::{Tier, Topology};
use tercet_machine::file::Contents;
use tercet_machine::{Desired, Step, plan};

use crate::agent::{Reply, Request};
use crate::at_once::at_once;
use crate::converge::{converge, probe_all};
use crate::fleet::{Fleet, Member, unexpected};
use crate::held::{Held, holding};
use crate::migrate::Migrate;
use crate::paths::{self, CONFIGURATION, LIBRARY, PROGRAM_DIGITS};
use crate::progress::{Listener, Progress};
use crate::release::{self, ID_DIGITS, Kind, Release, Shipment};
use crate::report::Report;
use crate::rollout;
use crate::world::{Instance, World};

/// How many releases stay on the machines: the one in use and those to go back to.
const RELEASES_KEPT: usize = 3;

/// What an apply would do.
#[derive(Debug)]
pub struct FleetPlan {
    /// The steps on each machine, in the order of the file.
    pub machines: Vec<(String, Vec<Step>)>,
    /// The release each application server would change from and to; those that stay are not here.
    pub releases: Vec<(String, Option<String>, String)>,
    /// The migrations that are new: they run before the switch.
    pub migrations: Vec<String>,
    /// What the balancer's configuration file would be: only the balancer itself can judge all of it.
    pub balancer: Option<String>,
    pub(crate) now: World,
    pub(crate) then: World,
    pub(crate) shipment: Shipment,
    pub(crate) migrate: Option<Migrate>,
}

impl FleetPlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.releases.is_empty()
            && self.migrations.is_empty()
            && self.machines.iter().all(|(_, steps)| steps.is_empty())
    }
}

/// What `tercet.toml` would change. Changes nothing.
///
/// # Errors
/// A machine cannot be read, or the project's files cannot.
pub fn plan_release(fleet: &Fleet<'_>) -> Result<FleetPlan> {
    let shipment =
        release::prepare(fleet.topology, fleet.folder, &fleet.program, &fleet.secrets.authenticator)?;
    let mut plan = plan_for(fleet, shipment)?;
    if let Some(part) = fleet.topology.parts().iter().find(|part| part.tier == Tier::Database) {
        let folder = fleet.folder.join(&fleet.topology.database().migrations);
        let migrate = Migrate::read(&folder, fleet.topology.name(), part.port.number)?;
        plan.migrations = pending_migrations(fleet, &migrate)?;
        plan.migrate = Some(migrate);
    }
    Ok(plan)
}

/// What going back to the release that was used before the present one would change. The database stays as it is.
///
/// # Errors
/// A machine cannot be read, or there is no earlier release.
pub fn plan_rollback(fleet: &Fleet<'_>) -> Result<FleetPlan> {
    let reports = fleet.reports()?;
    let now = present(fleet, &reports);
    let serving: Vec<&String> = now.serving.values().map(|instance| &instance.release).collect();
    let previous = now.releases.iter().find(|release| !serving.contains(&&release.id)).cloned();
    let release =
        previous.context("there is no earlier release on the machines\nhint: tercet apply makes releases")?;
    plan_for(fleet, Shipment { release, archive: None })
}

fn plan_for(fleet: &Fleet<'_>, shipment: Shipment) -> Result<FleetPlan> {
    let now = present(fleet, &fleet.reports()?);
    let then = future(fleet.topology, &fleet.program, &now, &shipment.release);
    let facts_and_desired = probe_all(fleet, &then)?;
    let machines = fleet
        .names()
        .map(str::to_owned)
        .zip(facts_and_desired.iter().map(|(desired, facts)| plan(desired, facts)));
    let releases = then.serving.values().filter_map(|instance| {
        let from = now.serving.get(&instance.part).map(|instance| instance.release.clone());
        (from.as_ref() != Some(&instance.release))
            .then(|| (instance.part.clone(), from, instance.release.clone()))
    });
    Ok(FleetPlan {
        machines: machines.collect(),
        releases: releases.collect(),
        migrations: Vec::new(),
        balancer: facts_and_desired.iter().find_map(|(desired, _)| balancer_configuration(desired)),
        now,
        then,
        shipment,
        migrate: None,
    })
}

fn balancer_configuration(desired: &Desired) -> Option<String> {
    desired.files.iter().find_map(|file| match &file.contents {
        Contents::Text(text) if file.path == Path::new(CONFIGURATION).join("balancer.toml") => {
            Some(text.clone())
        }
        _ => None,
    })
}

/// Makes it so.
///
/// # Errors
/// Something failed: what served before still serves; a further apply goes on from where this one ended.
pub fn execute(fleet: &Fleet<'_>, plan: &FleetPlan, listener: Listener<'_>) -> Result<()> {
    holding(fleet, listener, |held| execute_held(fleet, plan, held, listener))
}

fn execute_held(
    fleet: &Fleet<'_>,
    plan: &FleetPlan,
    held: &Held<'_, '_>,
    listener: Listener<'_>,
) -> Result<()> {
    // What runs goes on running while the machines get what the new release needs.
    let mut base = plan.now.clone();
    base.releases.clone_from(&plan.then.releases);
    let bare = base.serving.is_empty();
    let (database, others): (Vec<_>, Vec<_>) =
        fleet.machines.iter().partition(|member| member.machine.tiers.contains(&Tier::Database));
    converge(fleet, &database, &base, held, listener)?;
    converge(fleet, &others, &base, held, listener)?;
    ship(fleet, &plan.shipment, held, listener)?;
    if let Some(migrate) = &plan.migrate {
        apply_migrations(fleet, migrate, listener)?;
    }
    if bare {
        rollout::first(fleet, &plan.then, held, listener)?;
    } else {
        rollout::roll(fleet, &base, &plan.then, held, listener)?;
    }
    if !plan.releases.is_empty() {
        mark_used(fleet, &plan.shipment.release)?;
    }
    let all: Vec<&Member<'_>> = fleet.machines.iter().collect();
    converge(fleet, &all, &plan.then, held, listener)?;
    rollout::wait_for_balancer(fleet, &plan.then)
}

/// Makes a release the one that was used last: a later rollback comes back to it, however old it is.
fn mark_used(fleet: &Fleet<'_>, release: &Release) -> Result<()> {
    let touch = format!("touch {}", release.record().display());
    let members: Vec<&Member<'_>> = applications(fleet).collect();
    at_once(&members, |member| member.remote.run(&touch, b"").map(drop)).map(drop)
}

/// What runs and serves, as the machines tell.
fn present(fleet: &Fleet<'_>, reports: &[Report]) -> World {
    let mut world = World::default();
    let serving: BTreeMap<&String, u16> =
        reports.iter().flat_map(|report| &report.serving).map(|(part, port)| (part, *port)).collect();
    for (member, report) in fleet.machines.iter().zip(reports) {
        // Names become paths on all machines, so one machine's word is not enough.
        let releases = report.releases.iter().filter(|it| crate::begins_digest(&it.id, ID_DIGITS));
        for release in releases {
            if !world.releases.contains(release) {
                world.releases.push(release.clone());
            }
        }
        let programs = report.programs.iter().filter(|name| crate::begins_digest(name, PROGRAM_DIGITS));
        world.programs.extend(programs.cloned());
        for (instance, _) in &report.instances {
            let known = fleet.topology.parts().iter().any(|part| {
                part.name == instance.part && fleet.topology.machine_of(part).name == member.machine.name
            });
            if known {
                world.running.push(instance.clone());
                if serving.get(&instance.part) == Some(&instance.port) {
                    world.serving.insert(instance.part.clone(), instance.clone());
                }
            } else {
                world.stale.entry(member.machine.name.clone()).or_default().push(instance.clone());
            }
        }
    }
    world
}

/// The world in which every application server is of `release`, and tercet is the one at `program`.
fn future(topology: &Topology, program: &str, now: &World, release: &Release) -> World {
    let mut then = World { stale: now.stale.clone(), ..World::default() };
    for part in topology.parts().iter().filter(|part| part.tier == Tier::Application) {
        let kept = now.serving.get(&part.name).filter(|instance| instance.release == release.id);
        let instance = kept.cloned().unwrap_or_else(|| {
            // The port the present one does not have.
            let taken = now.serving.get(&part.name).map(|instance| instance.port);
            let port = part.ports().into_iter().find(|port| Some(*port) != taken).unwrap_or(part.port.number);
            Instance { part: part.name.clone(), release: release.id.clone(), port }
        });
        then.serving.insert(part.name.clone(), instance.clone());
        let machine = &topology.machine_of(part).name;
        for other in now.of(&part.name).filter(|other| **other != instance) {
            then.stale.entry(machine.clone()).or_default().push(other.clone());
        }
        then.running.push(instance);
    }
    keep(program, now, release, &mut then);
    then
}

/// Keeps `release`, what serves now, those used last, and the binaries they run by; the rest is dropped.
fn keep(program: &str, now: &World, release: &Release, then: &mut World) {
    let serves = |id: &str| now.serving.values().any(|instance| instance.release == id);
    let others = now.releases.iter().filter(|other| other.id != release.id);
    let (serving, idle): (Vec<_>, Vec<_>) = others.partition(|other| serves(&other.id));
    // What serves now must go on until the switch, however old it is.
    let count = RELEASES_KEPT.max(1 + serving.len());
    then.releases = [release].into_iter().chain(serving).chain(idle).take(count).cloned().collect();
    let kept = |id: &str| then.releases.iter().any(|kept| kept.id == id);
    let dropped = now.releases.iter().filter(|other| !kept(&other.id)).map(Release::folder);
    let needed = |path: &str| path == program || then.releases.iter().any(|kept| kept.program == path);
    let (programs, unused): (BTreeSet<_>, BTreeSet<_>) =
        now.programs.iter().cloned().partition(|name| needed(&paths::program(name)));
    then.dropped = dropped.chain(unused.iter().map(|name| Path::new(LIBRARY).join(name))).collect();
    then.programs = programs;
}

/// Puts the person's own folder on every application machine and prepares it there.
fn ship(fleet: &Fleet<'_>, shipment: &Shipment, held: &Held<'_, '_>, listener: Listener<'_>) -> Result<()> {
    let Some(archive) = &shipment.archive else { return Ok(()) };
    let Kind::Own { build, .. } = &shipment.release.kind else { return Ok(()) };
    let folder = shipment.release.folder();
    let folder = folder.display();
    let members: Vec<&Member<'_>> = applications(fleet).collect();
    at_once(&members, |member| {
        held.check()?;
        let machine = member.machine.name.clone();
        if member.remote.run(&format!("test -d {folder}/program && echo there || true"), b"")?.trim() == "there" {
            return Ok(());
        }
        listener(Progress::Step { machine: machine.clone(), step: format!("unpack release {}", shipment.release.id) });
        // Built under its final name, since programs remember where they were built; the mark comes last.
        let unpack = format!(
            "set -e; rm -rf {folder}/program.new; mkdir -p {folder}/program.new; tar -x -C {folder}/program.new"
        );
        member.remote.run(&unpack, archive)?;
        if build.is_some() {
            listener(Progress::Step { machine, step: format!("build release {}", shipment.release.id) });
        }
        let build = build.as_ref().map_or(String::from("true"), |build| crate::ssh::shell_words(&build.words("", 0)));
        let build = format!(
            "set -e; mv {folder}/program.new {folder}/program; cd {folder}/program; \
             if ! ( {build} ) </dev/null >&2; then rm -rf {folder}/program; exit 1; fi"
        );
        member.remote.run(&build, b"").map(drop)
    })
    .map(drop)
}

/// The machines that carry application servers.
fn applications<'b, 'a>(fleet: &'b Fleet<'a>) -> impl Iterator<Item = &'b Member<'a>> {
    fleet.machines.iter().filter(|member| member.machine.tiers.contains(&Tier::Application))
}

fn pending_migrations(fleet: &Fleet<'_>, migrate: &Migrate) -> Result<Vec<String>> {
    let Some(member) = database_machine(fleet) else { return Ok(Vec::new()) };
    match fleet.agent(member).ask(&Request::Pending(migrate.clone()))? {
        Reply::Pending(names) => Ok(names),
        _ => bail!(unexpected(&member.machine.name)),
    }
}

fn apply_migrations(fleet: &Fleet<'_>, migrate: &Migrate, listener: Listener<'_>) -> Result<()> {
    let Some(member) = database_machine(fleet) else { return Ok(()) };
    match fleet.agent(member).ask(&Request::Migrate(migrate.clone()))? {
        Reply::Migrated(count) => listener(Progress::Migrated { count }),
        _ => bail!(unexpected(&member.machine.name)),
    }
    Ok(())
}

fn database_machine<'b, 'a>(fleet: &'b Fleet<'a>) -> Option<&'b Member<'a>> {
    fleet.machines.iter().find(|member| member.machine.tiers.contains(&Tier::Database))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use expect_test::{Expect, expect};
    use tercet_config::Origin;
    use tercet_machine::Secret;

    use super::*;

    /// A release `id@program`.
    fn release(name: &str) -> Release {
        let (id, by) = name.split_once('@').unwrap();
        Release {
            id: id.to_owned(),
            kind: Kind::Api { configuration: Secret::new("") },
            program: paths::program(by),
        }
    }

    /// What is kept and what goes when tercet `by` applies `next`, while of `made`, used last first, `serving` serves.
    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check(made: &[&str], programs: &[&str], serving: &str, next: &str, by: &str, expected: Expect) {
        let topology =
            tercet_config::parse("application.servers = 1", Origin { file: "tercet.toml", folder: "shop" })
                .unwrap();
        let instance = Instance { part: "app-1".to_owned(), release: serving.to_owned(), port: 8081 };
        let now = World {
            releases: made.iter().map(|name| release(name)).collect(),
            programs: programs.iter().map(|name| (*name).to_owned()).collect(),
            running: vec![instance.clone()],
            serving: BTreeMap::from([(instance.part.clone(), instance)]),
            ..World::default()
        };
        let then = future(&topology, &paths::program(by), &now, &release(next));
        let mut text = String::new();
        for release in &then.releases {
            writeln!(text, "keep {}", release.id).unwrap();
        }
        for name in &then.programs {
            writeln!(text, "keep {}", paths::program(name)).unwrap();
        }
        for path in &then.dropped {
            writeln!(text, "drop {}", path.display()).unwrap();
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn the_last_three_releases_stay_and_the_binaries_they_run_by() {
        check(
            &["c@3", "b@2", "a@1"],
            &["1", "2", "3", "4"],
            "c",
            "d@4",
            "4",
            expect![[r#"
            keep d
            keep c
            keep b
            keep /usr/local/lib/tercet/2/tercet
            keep /usr/local/lib/tercet/3/tercet
            keep /usr/local/lib/tercet/4/tercet
            drop /usr/local/lib/tercet/releases/a
            drop /usr/local/lib/tercet/1
        "#]],
        );
    }

    #[test]
    fn a_binary_stays_as_long_as_one_release_runs_by_it() {
        check(
            &["c@1", "b@1", "a@1"],
            &["1", "2"],
            "c",
            "d@2",
            "2",
            expect![[r#"
            keep d
            keep c
            keep b
            keep /usr/local/lib/tercet/1/tercet
            keep /usr/local/lib/tercet/2/tercet
            drop /usr/local/lib/tercet/releases/a
        "#]],
        );
    }

    #[test]
    fn going_back_needs_the_older_binary_and_tercet_itself() {
        check(
            &["b@2", "a@1"],
            &["1", "2", "3", "4"],
            "b",
            "a@1",
            "3",
            expect![[r#"
            keep a
            keep b
            keep /usr/local/lib/tercet/1/tercet
            keep /usr/local/lib/tercet/2/tercet
            keep /usr/local/lib/tercet/3/tercet
            drop /usr/local/lib/tercet/4
        "#]],
        );
    }

    #[test]
    fn what_serves_stays_until_the_switch_however_old_it_is() {
        check(
            &["c@3", "b@2", "a@1"],
            &["1", "2", "3", "4"],
            "a",
            "d@4",
            "4",
            expect![[r#"
            keep d
            keep a
            keep c
            keep /usr/local/lib/tercet/1/tercet
            keep /usr/local/lib/tercet/3/tercet
            keep /usr/local/lib/tercet/4/tercet
            drop /usr/local/lib/tercet/releases/b
            drop /usr/local/lib/tercet/2
        "#]],
        );
    }
}
