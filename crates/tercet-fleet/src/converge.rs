//! Machines, brought to what they should be.

use anyhow::Result;
use tercet_machine::{Desired, Facts, Step, plan};

use crate::agent::{Reply, Request};
use crate::at_once::at_once;
use crate::fleet::{Fleet, Member, unexpected};
use crate::held::Held;
use crate::progress::{Listener, Progress};
use crate::world::World;

/// Brings machines to what they should be in `world`, all at the same time.
pub(crate) fn converge(
    fleet: &Fleet<'_>,
    members: &[&Member<'_>],
    world: &World,
    held: &Held<'_, '_>,
    listener: Listener<'_>,
) -> Result<()> {
    at_once(members, |member| {
        let (desired, facts) = probe_one(fleet, member, world)?;
        let mut steps = plan(&desired, &facts);
        // A package brings users, files and running units: what is to be done beside it is decided after it.
        if let Some(install @ Step::InstallPackages { .. }) = steps.first() {
            take(fleet, member, &desired, vec![install.clone()], held, listener, false)?;
            let (desired, facts) = probe_one(fleet, member, world)?;
            steps = plan(&desired, &facts);
        }
        // The new firewall rules stay only if a connection opened after them still gets in.
        let (before, confirm): (Vec<Step>, Vec<Step>) =
            steps.into_iter().partition(|step| !matches!(step, Step::KeepFirewall { .. }));
        take(fleet, member, &desired, before, held, listener, false)?;
        take(fleet, member, &desired, confirm, held, listener, true)
    })
    .map(drop)
}

fn take(
    fleet: &Fleet<'_>,
    member: &Member<'_>,
    desired: &Desired,
    steps: Vec<Step>,
    held: &Held<'_, '_>,
    listener: Listener<'_>,
    anew: bool,
) -> Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    held.check()?;
    let names: Vec<String> = steps.iter().map(ToString::to_string).collect();
    let fence = held.fence(&member.machine.name);
    let agent = fleet.agent(member);
    let request = Request::Execute { desired: desired.clone(), steps, fence };
    if anew {
        for step in names {
            listener(Progress::Step { machine: member.machine.name.clone(), step });
        }
        return agent.ask_anew(&request);
    }
    agent.converse(&request, |reply| {
        if let Reply::Begun(place) = reply
            && let Some(step) = names.get(place)
        {
            listener(Progress::Step { machine: member.machine.name.clone(), step: step.clone() });
        }
        Ok(())
    })
}

/// What each machine should be in `world`, and what it is, in the order of the file.
pub(crate) fn probe_all(fleet: &Fleet<'_>, world: &World) -> Result<Vec<(Desired, Facts)>> {
    at_once(&fleet.machines, |member| probe_one(fleet, member, world))
}

fn probe_one(fleet: &Fleet<'_>, member: &Member<'_>, world: &World) -> Result<(Desired, Facts)> {
    let desired = fleet.project().desired(member.machine, &member.survey, world);
    match fleet.agent(member).ask(&Request::Probe { desired: desired.clone() })? {
        Reply::Facts(facts) => Ok((desired, facts)),
        _ => Err(unexpected(&member.machine.name)),
    }
}
