//! The identity of a machine and of a project's data, recorded on every machine, so that neither is ever taken for
//! another's.

use std::fmt;
use std::fs;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tercet_machine::file::{Contents, File};
use tercet_machine::path::Owner;

/// Where a machine keeps it.
pub(crate) const FILE: &str = "/var/lib/tercet/identity.json";

/// The project that a machine belongs to.
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

/// The first characters of a long id, enough to distinguish two.
fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// The identity of the machine this runs on; `None` before the first apply.
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
