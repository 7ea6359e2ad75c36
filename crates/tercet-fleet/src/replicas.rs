//! The replicas of the operator state on the machines: read from all of them, and written under their leases.

use anyhow::{Context as _, Result, bail};

use crate::agent::{Change, Query, Reply};
use crate::at_once::{all_in_one, at_once, outcomes};
use crate::fenced::{Leases, with_leases};
use crate::fleet::{Fleet, Unreachable, unexpected};
use crate::progress::{Listener, Progress};
use crate::state::encryption::Recipients;
use crate::state::push::{Decision, Pushed, decide, pushed, seal, targets};
use crate::state::{Held, Holding, Local, Record};

/// Reads the state from each machine; also returns the machines that failed, with the error.
pub fn holdings(fleet: &Fleet<'_>) -> (Vec<Holding>, Vec<Unreachable>) {
    let outcomes = outcomes(&fleet.machines, |member| match fleet.agent(member).ask(Query::State)? {
        Reply::State(kept) => Ok(Holding::new(&member.machine.name, kept)),
        _ => Err(unexpected(&member.machine.name)),
    });
    let (mut holdings, mut errors) = (Vec::new(), Vec::new());
    for (name, outcome) in fleet.names().map(str::to_owned).zip(outcomes) {
        match outcome {
            Ok(holding) => holdings.push(holding),
            Err(error) => errors.push((name, error)),
        }
    }
    (holdings, errors)
}

/// Fails if a machine could not be read.
fn all_answered(errors: &[Unreachable]) -> Result<()> {
    if errors.is_empty() { Ok(()) } else { Err(all_in_one(errors.iter().map(|(_, error)| error))) }
}

/// Stores the folder's state on all machines of `fleet`, encrypted to `recipients`.
///
/// # Errors
/// A machine has a state that the folder's was not made from (unless `replace`), is being changed by another operator, or
/// cannot be written to.
pub fn push(
    fleet: &Fleet<'_>,
    recipients: &Recipients,
    replace: bool,
    listener: Listener<'_>,
) -> Result<Pushed> {
    let local = Local::of(fleet.folder)?.context(
        "this folder has no operator state to push\nhint: tercet apply makes it, tercet state pull fetches it",
    )?;
    check_authority(fleet, &local)?;
    let (held, unreachable) = holdings(fleet);
    all_answered(&unreachable)?;
    if decide(&local, &held, recipients, replace)? == Decision::Nothing {
        let project = local.contents.project()?;
        let generation = local.record.as_ref().map_or(0, |it| it.held.header.generation);
        return pushed(&local, generation, Vec::new(), &held, project);
    }
    with_leases(fleet, listener, |leases| {
        let (held, unreachable) = holdings(fleet);
        all_answered(&unreachable)?;
        push_under(leases, fleet, &local, &held, recipients, replace, listener)
    })
}

/// Refuses to push from a folder whose authority is not the one in tercet.toml: no operator would accept the state.
fn check_authority(fleet: &Fleet<'_>, local: &Local) -> Result<()> {
    let Some(named) = &fleet.topology.state().authority else { return Ok(()) };
    let here = local.contents.authorities()?;
    if !here.contains(named) {
        bail!(
            "tercet.toml has [state] authority = {named:?}, and this folder's is {:?}\nhint: if the authority was replaced on \
             purpose, put the new one in tercet.toml; else this folder's state is another's",
            local.authority()?
        );
    }
    Ok(())
}

fn push_under(
    leases: &Leases<'_, '_>,
    fleet: &Fleet<'_>,
    local: &Local,
    held: &[Holding],
    recipients: &Recipients,
    replace: bool,
    listener: Listener<'_>,
) -> Result<Pushed> {
    let project = local.contents.project()?;
    let sealed = match decide(local, held, recipients, replace)? {
        Decision::Nothing => None,
        Decision::Distribute(sealed) => Some(*sealed),
        Decision::Seal { generation, history } => {
            let names = (fleet.topology.name(), fleet.operator.as_str());
            let sealed = seal(local, recipients, names, generation, history)?;
            // Recorded first: after an interrupted push, the folder knows every state that a machine has.
            let record = Record { held: Held::of(&sealed), contents: local.digest.clone() };
            record.write(fleet.folder)?;
            Some(sealed)
        }
    };
    let Some(sealed) = sealed else {
        let generation = local.record.as_ref().map_or(0, |it| it.held.header.generation);
        return pushed(local, generation, Vec::new(), held, project);
    };
    let missing: Vec<&Holding> =
        targets(held, project).filter(|it| it.text.as_deref() != Some(&*sealed.id())).collect();
    let machines = at_once(&missing, |holding| {
        let machine = &holding.machine;
        let note =
            format!("{machine}: keeping generation {} of the operator state", sealed.header().generation);
        listener(Progress::Note { note });
        let change = Change::KeepState { state: sealed.text().to_owned(), replaces: holding.text.clone() };
        leases.machine(machine)?.change(change, b"", |_| Ok(()))?;
        Ok(machine.clone())
    });
    let machines = machines.context("the operator state is not on all machines; push again")?;
    pushed(local, sealed.header().generation, machines, held, project)
}
