//! A release, walked through the application servers one by one, behind the balancer.
//!
//! New beside old, ready, in at the balancer, old out and stopped; then the next. What fails on the way is put
//! back by the same walk. Two servers never change at once.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tercet_config::{Part, Tier};

use crate::agent::Request;
use crate::at_once::at_once;
use crate::converge::converge;
use crate::desired::unit_name;
use crate::fleet::{Fleet, Member};
use crate::held::Held;
use crate::progress::{Listener, Progress};
use crate::world::{Instance, World};

/// Seconds a new server may take until it is ready.
const READY_SECONDS: u64 = 60;
/// How long the balancer may take until it has found a ready server healthy.
const BALANCER_PATIENCE: Duration = Duration::from_secs(20);

/// The first release: nothing serves yet, so all servers start at once, and the balancer when they are ready.
pub(crate) fn first(
    fleet: &Fleet<'_>,
    then: &World,
    held: &Held<'_, '_>,
    listener: Listener<'_>,
) -> Result<()> {
    let without_balancer = World { serving: std::collections::BTreeMap::new(), ..then.clone() };
    let members: Vec<&Member<'_>> =
        fleet.machines.iter().filter(|member| member.machine.tiers.contains(&Tier::Application)).collect();
    for instance in &then.running {
        listener(Progress::Starting { part: instance.part.clone(), release: instance.release.clone() });
    }
    converge(fleet, &members, &without_balancer, held, listener)?;
    at_once(&then.running, |instance| wait(fleet, instance, then))?;
    Ok(())
}

/// From what serves now to what serves then.
pub(crate) fn roll(
    fleet: &Fleet<'_>,
    now: &World,
    then: &World,
    held: &Held<'_, '_>,
    listener: Listener<'_>,
) -> Result<()> {
    let mut world = now.clone();
    let changing: Vec<&Instance> =
        then.serving.values().filter(|instance| now.serving.get(&instance.part) != Some(instance)).collect();
    for (place, instance) in changing.iter().enumerate() {
        let Err(error) = replace(fleet, &mut world, instance, held, listener) else { continue };
        listener(Progress::Reverting { why: format!("{error:#}") });
        for instance in changing[..=place].iter().rev() {
            let back = match now.serving.get(&instance.part) {
                Some(old) => replace(fleet, &mut world, old, held, listener),
                None => Ok(()),
            };
            back.with_context(|| format!("{}: could not be put back after: {error:#}", instance.part))?;
        }
        return Err(error.context("the release failed, and what served before serves again"));
    }
    Ok(())
}

/// Makes `instance` what serves its part, and the only one of it that runs.
fn replace(
    fleet: &Fleet<'_>,
    world: &mut World,
    instance: &Instance,
    held: &Held<'_, '_>,
    listener: Listener<'_>,
) -> Result<()> {
    let part = part(fleet, &instance.part)?;
    let machine = &fleet.topology.machine_of(part).name;
    let member: Vec<&Member<'_>> = fleet.machines.iter().filter(|it| it.machine.name == *machine).collect();
    let balancers: Vec<&Member<'_>> =
        fleet.machines.iter().filter(|it| it.machine.tiers.contains(&Tier::Balancer)).collect();

    if !world.running.contains(instance) {
        world.running.push(instance.clone());
    }
    if let Some(stale) = world.stale.get_mut(machine) {
        stale.retain(|other| other != instance);
    }
    listener(Progress::Starting { part: instance.part.clone(), release: instance.release.clone() });
    converge(fleet, &member, world, held, listener)?;
    wait(fleet, instance, world)?;

    if world.serving.get(&instance.part) != Some(instance) {
        world.serving.insert(instance.part.clone(), instance.clone());
        converge(fleet, &balancers, world, held, listener)?;
        wait_for_balancer(fleet, world)?;
    }
    listener(Progress::Switched { part: instance.part.clone(), release: instance.release.clone() });

    let (gone, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut world.running)
        .into_iter()
        .partition(|other| other.part == instance.part && other != instance);
    world.running = kept;
    world.stale.entry(machine.clone()).or_default().extend(gone);
    converge(fleet, &member, world, held, listener)
}

/// Waits until the instance answers on its own machine that it is ready.
fn wait(fleet: &Fleet<'_>, instance: &Instance, world: &World) -> Result<()> {
    let part = part(fleet, &instance.part)?;
    let machine = fleet.topology.machine_of(part);
    let release = world.releases.iter().find(|release| release.id == instance.release);
    let release = release.with_context(|| format!("{}: its release is unknown", instance.part))?;
    let member = fleet.machines.iter().find(|member| member.machine.name == machine.name);
    let member = member.with_context(|| format!("{}: its machine is unknown", instance.part))?;
    let host = fleet.topology.edges().iter().find(|edge| edge.to.name == part.name).map(|edge| edge.address);
    let host = host.with_context(|| format!("{}: nobody connects to it", instance.part))?;
    let port = release.health_port(instance.port).unwrap_or(instance.port);
    let request = Request::Await {
        address: SocketAddr::new(host, port),
        path: release.health_path().map(str::to_owned),
        seconds: READY_SECONDS,
        unit: unit_name(instance),
    };
    fleet
        .agent(member)
        .ask(&request)
        .map(drop)
        .with_context(|| format!("{}, release {}, is not ready", instance.part, instance.release))
}

/// Waits until the balancer hands requests to everything that should serve.
pub(crate) fn wait_for_balancer(fleet: &Fleet<'_>, world: &World) -> Result<()> {
    let begin = Instant::now();
    loop {
        // While it starts or reads its configuration, its admin socket may not answer.
        let state = fleet.balancer().ok().flatten();
        let missing = world.serving.values().find(|instance| {
            let port = format!(":{}", instance.port);
            let servers = state.iter().flat_map(|state| &state.servers);
            !servers
                .into_iter()
                .any(|it| it.name == instance.part && it.address.ends_with(&port) && it.state == "up")
        });
        let Some(instance) = missing else { return Ok(()) };
        if begin.elapsed() > BALANCER_PATIENCE {
            bail!("the balancer does not find {}, release {}, healthy", instance.part, instance.release);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn part<'b>(fleet: &'b Fleet<'_>, name: &str) -> Result<&'b Part> {
    fleet
        .topology
        .parts()
        .iter()
        .find(|part| part.name == name)
        .with_context(|| format!("there is no part {name}"))
}
