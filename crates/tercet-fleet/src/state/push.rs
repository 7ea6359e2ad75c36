//! The decision of a push: the generation that the operator state becomes, or whether this folder must pull first.

use std::cmp::Reverse;

use anyhow::{Result, bail};

use super::encryption::Recipients;
use super::{Held, Holding, Local, Record, Sealed};

/// The outcome of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The machines' generation.
    pub generation: u64,
    /// The machines that received it; none when all had it.
    pub machines: Vec<String>,
    /// Machines that belong to no project yet: an apply makes them this one's.
    pub left_out: Vec<String>,
    /// The fingerprint of the authority that signed it.
    pub authority: String,
}

/// The decision.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
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

/// Decides. `replace` makes the folder's state the newest, regardless of the machines' states.
pub(crate) fn decide(
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
    // A replaced state becomes an ancestor, so that a folder that has it can pull.
    let mut history = here.map(|it| it.header.history_with(&it.id)).unwrap_or_default();
    for held in there {
        if !history.contains(&held.id) {
            history.push(held.id);
        }
    }
    Ok(Decision::Seal { generation, history })
}

/// The machines of this project.
pub(crate) fn targets<'h>(held: &'h [Holding], project: &'h str) -> impl Iterator<Item = &'h Holding> {
    held.iter().filter(move |it| it.project.as_deref() == Some(project))
}

pub(crate) fn pushed(
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
pub(crate) fn seal(
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
