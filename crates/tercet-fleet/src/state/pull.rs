//! Pulling the operator state: which of the machines' states is chosen, and whether it may replace the folder's.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

use super::encryption::{Ask, Key};
use super::{Contents, Held, Holding, Local, Record, Sealed, folder};

/// The criteria of a pull.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The project's name.
    pub name: &'a str,
    /// The authority that must have signed it; without one the newest state is chosen, for the operator to confirm.
    pub authority: Option<&'a str>,
    /// The one machine to take it from.
    pub from: Option<&'a str>,
}

/// The state that was chosen.
#[derive(Debug)]
pub struct Found {
    /// The state.
    pub sealed: Sealed,
    /// The machines that keep it.
    pub machines: Vec<String>,
    /// Why the states of other machines were rejected.
    pub notes: Vec<String>,
}

/// The outcome of a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// The folder had it already.
    AlreadyHere,
    /// It is in its place.
    Placed {
        /// The folder in `.tercet/` with the replaced state, if it was to be kept.
        kept: Option<String>,
    },
}

/// Chooses the newest state of the wanted authority.
///
/// # Errors
/// There is none, or there are several; the error lists each machine's state.
pub fn choose(local: Option<&Local>, held: &[Holding], wanted: Wanted<'_>) -> Result<Found> {
    let project = local.map(|it| it.contents.project()).transpose()?;
    let mut notes = Vec::new();
    let mut good: Vec<(&str, &Sealed)> = Vec::new();
    for holding in held.iter().filter(|it| wanted.from.is_none_or(|from| it.machine == from)) {
        match judge(holding, project, wanted) {
            Ok(Some(sealed)) => good.push((&holding.machine, sealed)),
            Ok(None) => {}
            Err(error) => notes.push(format!("{}: {error:#}", holding.machine)),
        }
    }
    let Some((_, newest)) = good.iter().max_by_key(|(_, sealed)| sealed.header().generation) else {
        let what = match wanted.from {
            Some(from) => format!("{from} keeps no operator state that can be pulled"),
            None => "no machine keeps an operator state that can be pulled".to_owned(),
        };
        let hint = match wanted.authority {
            Some(_) if notes.iter().any(|note| note.contains("signed by authority")) => {
                "compare the authority with what `tercet state` shows the other operator; if it was replaced on purpose, put it in \
                 tercet.toml, or pass --authority"
            }
            _ => "`tercet state push` from the folder that has it puts it there",
        };
        let notes: String = notes.iter().map(|note| format!("\n{note}")).collect();
        bail!("{what}{notes}\nhint: {hint}");
    };
    let rivals: Vec<String> = good
        .iter()
        .filter(|(_, it)| {
            it.header().generation == newest.header().generation || it.authority() != newest.authority()
        })
        .map(|(machine, it)| format!("{machine}: {}, signed by {}", it.header(), it.authority()))
        .collect();
    let is_one = |(_, it): &(&str, &Sealed)| {
        it.authority() == newest.authority()
            && (it.header().generation < newest.header().generation || it == newest)
    };
    ensure!(
        good.iter().all(is_one),
        "the machines keep different operator states, and none is the newest:\n{}\nhint: `tercet state pull --from MACHINE` \
         takes one, --authority says whose",
        rivals.join("\n")
    );
    let machines = good.iter().filter(|(_, it)| it == newest).map(|(machine, _)| (*machine).to_owned());
    Ok(Found { machines: machines.collect(), sealed: (*newest).clone(), notes })
}

/// The state of a machine; an error when it is rejected.
fn judge<'h>(holding: &'h Holding, project: Option<&str>, wanted: Wanted<'_>) -> Result<Option<&'h Sealed>> {
    let sealed = match &holding.sealed {
        Ok(Some(sealed)) => sealed,
        Ok(None) => return Ok(None),
        Err(why) => bail!("the operator state there does not count: {why}"),
    };
    let header = sealed.header();
    let is_other = header.name != wanted.name
        || project.is_some_and(|project| header.project != project)
        || holding.project.as_ref().is_some_and(|project| header.project != *project);
    ensure!(
        !is_other,
        "the operator state there is another project's: {} ({})",
        header.name,
        header.project.get(..8).unwrap_or(&header.project)
    );
    let authority = sealed.authority();
    if let Some(wanted) = wanted.authority.filter(|it| **it != authority) {
        bail!("the operator state there is signed by authority {authority}, not by {wanted}");
    }
    Ok(Some(sealed))
}

/// Fails if a state must not replace the folder's, as far as its header shows.
///
/// # Errors
/// It is older than the folder's own.
pub fn check(local: Option<&Local>, found: &Sealed) -> Result<()> {
    let Some(record) = local.and_then(|local| local.record.as_ref()) else { return Ok(()) };
    let found = Held::of(found);
    let older = record.held.id != found.id && record.held.descends_from(&found)
        || found.header.generation < record.held.header.generation;
    ensure!(
        !older,
        "the newest the machines keep is {}; this folder has generation {}, which is newer\nhint: `tercet state push` brings \
         them this folder's",
        found.header,
        record.held.header.generation
    );
    Ok(())
}

/// Decrypts a state and puts it into the project's folder, whole or not at all. `replace` also replaces a state that it was
/// not made from, and keeps that one aside.
///
/// # Errors
/// It cannot be decrypted, is not what its header says, or the folder's own state is not one it was made from.
pub fn pull(project: &Path, found: &Sealed, key: &Key, replace: bool, ask: Ask<'_>) -> Result<Pulled> {
    let local = Local::of(project)?;
    check(local.as_ref(), found)?;
    let plain = key.decrypt(found.ciphertext(), &found.header().recipients, ask)?;
    let contents = Contents::unpack(&plain)?;
    check_contents(&contents, found)?;
    let record = Record { held: Held::of(found), contents: contents.digest()? };
    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H-%M-%SZ");
    let Some(local) = local else {
        // A key that `tercet up` generated here may be in use.
        let kept = folder::has_token_secret(project).then(|| format!("replaced-{time}"));
        folder::place(project, &contents, &record, kept.as_deref())?;
        return Ok(Pulled::Placed { kept });
    };
    if local.contents == contents {
        // Also where a copy was made by hand, or a push was killed before it was through.
        record.write(project)?;
        return Ok(Pulled::AlreadyHere);
    }
    let is_ancestor = !local.has_changed()
        && local
            .record
            .as_ref()
            .is_some_and(|it| it.held.id != found.id() && record.held.descends_from(&it.held));
    if !is_ancestor && !replace {
        bail!(
            "the machines keep {}; {}, and differs from it in {}\nhint: `tercet state push` if this folder's is the right one \
             (it says when it is not made from theirs); `tercet state pull --replace` takes theirs and keeps this one aside",
            found.header(),
            local.describe(),
            local.contents.differences(&contents).join(", ")
        );
    }
    let kept = (!is_ancestor).then(|| format!("replaced-{time}"));
    folder::place(project, &contents, &record, kept.as_deref())?;
    Ok(Pulled::Placed { kept })
}

/// Fails unless the decrypted state contains the project and authority of its header.
fn check_contents(contents: &Contents, found: &Sealed) -> Result<()> {
    let own = contents.authorities().context("what was decrypted")?;
    ensure!(
        own.contains(&found.authority()) && contents.project()? == found.header().project,
        "what was decrypted is the state of another project or authority than its header says"
    );
    Ok(())
}
