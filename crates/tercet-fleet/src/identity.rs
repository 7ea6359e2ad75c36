//! Whose a machine is, and which data is a project's: written on every machine, so that neither is ever taken for
//! another's.

use std::fmt;
use std::fs;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tercet_machine::file::{Contents, File};
use tercet_machine::path::Owner;

use crate::secrets::Secrets;

/// Where a machine keeps it.
pub(crate) const FILE: &str = "/var/lib/tercet/identity.json";

/// Whose a machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The project: random, made at the first apply, kept with its secrets.
    pub project: String,
    /// What the project is called.
    pub name: String,
    /// What the machine is called in it.
    pub machine: String,
    /// The tiers it carries.
    pub tiers: Vec<String>,
    /// The SHA-256 of the authority's certificate.
    pub authority: String,
    /// How often the project's secrets were replaced.
    #[serde(default)]
    pub generation: u64,
    /// When the machine came to the project: RFC 3339.
    pub since: String,
    /// Where the project's data is, once it has some.
    pub data: Option<Data>,
}

/// Which data is a project's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// PostgreSQL's system identifier: made by initdb, and in every copy of a cluster.
    pub cluster: String,
    /// The database's name.
    pub database: String,
    /// The machine it was on.
    pub machine: String,
    /// Since when: RFC 3339.
    pub since: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { project, name, machine, tiers, since, .. } = self;
        write!(
            f,
            "machine {machine} ({}) of project {name} ({}) since {since}",
            tiers.join(", "),
            short(project)
        )
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, database, machine, since } = self;
        write!(f, "database {database} of PostgreSQL cluster {cluster} on {machine}, since {since}")
    }
}

/// The beginning of a long name, enough to tell two apart.
fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// What the machine this runs on says; `None` before a first apply.
pub(crate) fn read() -> Result<Option<Identity>> {
    match fs::read(FILE) {
        Ok(text) => serde_json::from_slice(&text).map(Some).context(FILE),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(FILE),
    }
}

/// Writes it on the machine this runs on.
pub(crate) fn write(identity: &Identity) -> Result<()> {
    let text = serde_json::to_string_pretty(identity)? + "\n";
    let file = File { path: FILE.into(), contents: Contents::Text(text), owner: Owner::root(), mode: 0o644 };
    file.write().context(FILE)
}

/// How a folder comes to the operator state of a project that machines belong to.
pub(crate) fn how_to_get_state(machines_keep_it: bool) -> &'static str {
    if machines_keep_it {
        "`tercet state pull` fetches the operator state that the machines keep"
    } else {
        "copy .tercet from the folder it was applied from"
    }
}

/// Refuses a folder's secrets that are not the machine's.
///
/// # Errors
/// The machine is another project's, or another operator's of the same name, or its secrets were replaced since; `keeps_state`
/// says that it has that operator's state.
pub(crate) fn check(there: &Identity, secrets: &Secrets, keeps_state: bool) -> Result<()> {
    if there.project != secrets.project {
        bail!(
            "it is {there}\nhint: name another machine, or `tercet apply --take-over` makes it this project's"
        );
    }
    if there.generation > secrets.generation {
        bail!(
            "it is {there}, and its secrets are of generation {}: they were rotated after this folder's copy of generation {} \
             was made\n\
             hint: {}, or `tercet apply --take-over` replaces its secrets",
            there.generation,
            secrets.generation,
            how_to_get_state(keeps_state)
        );
    }
    if !secrets.authorities.contains(&there.authority) {
        bail!(
            "it is {there}, with another certificate authority than this folder has: its secrets are another operator's\n\
             hint: {}, or `tercet apply --take-over` replaces its secrets",
            how_to_get_state(keeps_state)
        );
    }
    Ok(())
}
