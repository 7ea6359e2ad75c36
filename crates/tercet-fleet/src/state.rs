//! The operator state, shared: the certificate authority, the passwords and the token secret that only the operator has are
//! kept on the machines, encrypted to the operators and signed by the authority, with a generation.
//!
//! [`push`](mod@push) and [`pull`](mod@pull) decide as pure functions of what the folder and the machines have. No machine
//! can read what it keeps, and none is trusted: what it returns counts by its signature alone.

pub mod encryption;
mod folder;
pub mod pull;
pub mod push;
mod sealed;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tercet_machine::file::{Contents as Text, File};
use tercet_machine::path::Owner;

pub(crate) use self::folder::Contents;
pub use self::folder::{Record, recover};
pub use self::sealed::{Header, Sealed};
use crate::identity::Identity;

/// The file on a machine.
const FILE: &str = "/var/lib/tercet/operator-state";

/// The id and header of an operator state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its digest.
    pub id: String,
    /// The part that is not encrypted.
    pub header: Header,
}

impl Held {
    pub(crate) fn of(sealed: &Sealed) -> Self {
        Self { id: sealed.id(), header: sealed.header().clone() }
    }

    /// Whether it is that state, or was made from it.
    pub(crate) fn descends_from(&self, other: &Self) -> bool {
        self.id == other.id || self.header.history.contains(&other.id)
    }
}

/// A machine's answer about the operator state it stores.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// The identity that the machine records.
    pub identity: Option<Identity>,
    /// The stored state.
    pub sealed: Option<String>,
}

/// The state that a machine stores, parsed by the operator.
#[derive(Debug)]
pub struct Holding {
    /// The machine.
    pub machine: String,
    /// The project that the machine belongs to.
    project: Option<String>,
    /// The state, or why it is invalid.
    pub sealed: Result<Option<Sealed>, String>,
    /// The digest of the stored file, valid or not.
    pub(crate) text: Option<String>,
}

impl Holding {
    pub(crate) fn new(machine: &str, kept: Kept) -> Self {
        let text = kept.sealed.as_ref().map(|text| crate::digest(text.as_bytes()));
        let sealed = kept.sealed.map(Sealed::parse).transpose().map_err(|error| format!("{error:#}"));
        Self { machine: machine.to_owned(), project: kept.identity.map(|it| it.project), sealed, text }
    }

    /// The state, when it is one of this project.
    fn of_project(&self, project: &str) -> Option<&Sealed> {
        self.sealed.as_ref().ok()?.as_ref().filter(|it| it.header().project == project)
    }
}

/// The project folder's own state.
#[derive(Debug)]
pub struct Local {
    pub(crate) contents: Contents,
    /// What it was when it was last pushed or pulled.
    pub record: Option<Record>,
    pub(crate) digest: String,
}

impl Local {
    /// What the project's folder has; `None` when it has no authority.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(project: &Path) -> Result<Option<Self>> {
        let Some(contents) = Contents::of(project)? else { return Ok(None) };
        let digest = contents.digest()?;
        Ok(Some(Self { record: Record::of(project)?, digest, contents }))
    }

    /// Whether it has changed since the last push or pull.
    pub fn has_changed(&self) -> bool {
        self.record.as_ref().is_none_or(|record| record.contents != self.digest)
    }

    /// The fingerprint of the authority that signs it.
    ///
    /// # Errors
    /// There is none.
    pub fn authority(&self) -> Result<String> {
        self.contents.authorities()?.into_iter().next().context("authority.crt has no certificate")
    }

    /// What it is, in words.
    fn describe(&self) -> String {
        match &self.record {
            Some(record) if self.has_changed() => {
                format!("this folder has generation {}, changed since", record.held.header.generation)
            }
            Some(record) => format!("this folder has generation {}", record.held.header.generation),
            None => "this folder's own was never pushed or pulled".to_owned(),
        }
    }
}

/// Refuses to change machines that keep a state which this folder's is not made of: what it would apply is out of date.
///
/// # Errors
/// One of them does.
pub(crate) fn check_current(
    record: Option<&Record>,
    project: &str,
    machine: &str,
    there: Option<&Held>,
) -> Result<()> {
    let Some(there) = there.filter(|it| it.header.project == project) else { return Ok(()) };
    if record.is_some_and(|record| record.held.descends_from(there)) {
        return Ok(());
    }
    let here = record.map_or_else(
        || "a state that was never pushed or pulled".to_owned(),
        |record| format!("generation {}", record.held.header.generation),
    );
    bail!(
        "{machine}: it has {}; this folder has {here}, so its passwords and keys may be out of date\n\
         hint: `tercet state pull` first",
        there.header
    )
}

/// What the machine this runs on keeps.
pub(crate) fn kept() -> Result<Kept> {
    let text = match fs::metadata(FILE) {
        Ok(metadata) if metadata.len() > sealed::MOST_BYTES as u64 => Some(String::new()),
        Ok(_) => Some(String::from_utf8_lossy(&fs::read(FILE).context(FILE)?).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).context(FILE),
    };
    Ok(Kept { identity: crate::identity::read()?, sealed: text })
}

/// The same by its header, for a report, without what it was made from; a damaged one is none.
pub(crate) fn held() -> Result<Option<Held>> {
    let mut held = kept()?.sealed.and_then(|text| Sealed::parse(text).ok()).as_ref().map(Held::of);
    if let Some(held) = &mut held {
        held.header.history.clear();
    }
    Ok(held)
}

/// Keeps a state on the machine this runs on, in the place of the one with the digest `replaces`.
pub(crate) fn keep(text: String, replaces: Option<&str>) -> Result<()> {
    let there = kept()?.sealed.map(|text| crate::digest(text.as_bytes()));
    ensure!(there.as_deref() == replaces, "another operator state came here meanwhile\nhint: push again");
    Sealed::parse(text.clone())?;
    let file = File { path: FILE.into(), contents: Text::Text(text), owner: Owner::root(), mode: 0o600 };
    file.write().context(FILE)
}

#[cfg(test)]
mod tests;
