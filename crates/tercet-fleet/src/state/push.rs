//! Pushing the operator state to the machines: which generation it becomes, and who is asked to pull first.

use std::cmp::Reverse;

use anyhow::{Context as _, Result, bail};

use super::encryption::Recipients;
use super::{Held, Holding, Local, Record, Sealed, all_answered, holdings};
use crate::agent::Change;
use crate::at_once::at_once;
use crate::fenced::{Leases, with_leases};
use crate::fleet::Fleet;
use crate::progress::{Listener, Progress};

/// What came of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The generation that the machines have now.
    pub generation: u64,
    /// The machines that did not have it before; none when all had.
    pub machines: Vec<String>,
    /// Machines that belong to no project yet: an apply makes them this one's.
    pub left_out: Vec<String>,
    /// The fingerprint of the authority that signed it.
    pub authority: String,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Every machine has the folder's state.
    Nothing,
    /// The folder's state is pushed already, and some machines do not have it.
    Distribute(Box<Sealed>),
    /// A new generation.
    Seal { generation: u64, history: Vec<String> },
}

/// Whether the folder's state is another than the one that was last pushed, or encrypted to others.
pub fn is_due(local: &Local, recipients: &Recipients) -> bool {
    let same = |record: &Record| record.held.header.recipients == recipients.texts();
    local.has_changed() || recipients.texts().is_empty() || !local.record.as_ref().is_some_and(same)
}

/// Decides. `replace` makes the folder's state the newest whatever the machines have.
pub(super) fn decide(
    local: &Local,
    held: &[Holding],
    recipients: &Recipients,
    replace: bool,
) -> Result<Decision> {
    let project = local.contents.project()?;
    let here = local.record.as_ref().map(|record| &record.held);
    let ours = || held.iter().filter_map(|it| Some((it, it.of_project(project)?)));
    let foreign = ours()
        .filter(|(_, sealed)| !here.is_some_and(|here| here.descends_from(&Held::of(sealed))))
        .min_by_key(|(_, sealed)| Reverse(sealed.header().generation));
    if let Some((holding, sealed)) = foreign.filter(|_| !replace) {
        let authority = sealed.authority();
        let other = if local.contents.authorities()?.contains(&authority) {
            String::new()
        } else {
            format!(", signed by another authority, {authority}")
        };
        bail!(
            "{}: it has {}{other}; {}, which was not made from that\nhint: `tercet state pull` first; `tercet state push --replace` \
             makes this folder's the newest, and what the other operator changed is then lost",
            holding.machine,
            sealed.header(),
            local.describe()
        );
    }
    if foreign.is_none() && !is_due(local, recipients) {
        let newest = ours().find(|(_, sealed)| Some(sealed.id()) == here.map(|here| here.id.clone()));
        if let Some((_, sealed)) = newest {
            let all = targets(held, project).all(|it| it.of_project(project) == Some(sealed));
            return Ok(if all { Decision::Nothing } else { Decision::Distribute(Box::new(sealed.clone())) });
        }
    }
    let there: Vec<Held> = ours().map(|(_, sealed)| Held::of(sealed)).collect();
    let generation = there.iter().chain(here).map(|it| it.header.generation).max().unwrap_or_default() + 1;
    // What is replaced is an ancestor from now on: who has it may pull.
    let mut history = here.map(|it| it.header.history_with(&it.id)).unwrap_or_default();
    for held in there {
        if !history.contains(&held.id) {
            history.push(held.id);
        }
    }
    Ok(Decision::Seal { generation, history })
}

/// The machines that are this project's.
fn targets<'h>(held: &'h [Holding], project: &'h str) -> impl Iterator<Item = &'h Holding> {
    held.iter().filter(move |it| it.project.as_deref() == Some(project))
}

/// Keeps the folder's state on all machines of `fleet`, encrypted to `recipients`.
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

/// A folder with another authority than tercet.toml names pushes what nobody would pull.
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
            // Written down first: should this be killed, the machines have at most what the folder knows of.
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

fn pushed(
    local: &Local,
    generation: u64,
    machines: Vec<String>,
    held: &[Holding],
    project: &str,
) -> Result<Pushed> {
    let left_out = held.iter().filter(|it| it.project.as_deref() != Some(project));
    Ok(Pushed {
        generation,
        machines,
        left_out: left_out.map(|it| it.machine.clone()).collect(),
        authority: local.authority()?,
    })
}

/// Makes a new generation of the folder's state; `name` is the project's, `by` the operator's.
pub(super) fn seal(
    local: &Local,
    recipients: &Recipients,
    (name, by): (&str, &str),
    generation: u64,
    history: Vec<String>,
) -> Result<Sealed> {
    let contents = &local.contents;
    let header = super::Header {
        project: contents.project()?.to_owned(),
        name: name.to_owned(),
        generation,
        by: by.to_owned(),
        at: crate::now(),
        recipients: recipients.texts().to_vec(),
        certificate: String::new(),
        history,
    };
    let ciphertext = recipients.encrypt(contents.pack()?.reveal().as_bytes())?;
    Sealed::sign(
        header,
        ciphertext,
        contents.text("fleet/authority.key")?,
        contents.text("fleet/authority.crt")?,
    )
}
