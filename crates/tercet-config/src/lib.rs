//! `tercet.toml`: text in, [`Topology`] out, every mistake at once.
//!
//! Pure: it opens no file, no socket and no environment variable, so a secret named by `"@path"` stays a path
//! here. It knows what tiers are for and which of them may talk to which, never how one is run.

pub mod environment;
mod file;
mod reference;
mod topology;

pub use tercet_options::otlp::Otlp;
pub use tercet_options::web_url::is_web_url;
pub use tercet_options::{Mistake, Mistakes};

use self::file::File;
pub use self::reference::{json_schema, markdown};
pub use self::topology::alerts::{Alerts, Receiver};
pub use self::topology::backup::{Backup, Repository, S3};
pub use self::topology::edge::{Edge, End, Protocol};
pub use self::topology::monitor::{ALERTMANAGER, POSTGRES_EXPORTER, PROMETHEUS, node_exporter};
pub use self::topology::{
    Api, Application, Balancer, Certificate, Database, Destination, Egress, Environment, Machine, Network,
    Part, Port, Program, Reach, Rollout, Secret, Server, SshFrom, State, Tier, Tls, Topology, admin_port,
    name_of,
};

/// What the file is called, in the project's folder.
pub const FILE: &str = "tercet.toml";

/// The `tercet.toml` that `tercet init` writes: every section, every common key, said in comments.
pub const EXAMPLE: &str = include_str!("example.toml");

/// Where a text comes from, for messages and defaults.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The file's name as messages should call it.
    pub file: &'a str,
    /// The name of the folder it lies in: what the project is called when the file gives no name.
    pub folder: &'a str,
}

/// Reads a `tercet.toml`. The empty text is valid.
///
/// # Errors
/// All mistakes of the text: unknown keys, wrong types, and what contradicts itself.
pub fn parse(text: &str, origin: Origin<'_>) -> Result<Topology, Mistakes> {
    let (file, mut mistakes, spans) =
        tercet_options::document::read::<File>(text, origin.file, &reference::rules());
    let topology = file.map(|file| Topology::from_file(&file, origin.folder, &mut mistakes, &spans));
    match topology {
        Some(topology) if mistakes.is_empty() => Ok(topology),
        _ => Err(mistakes),
    }
}
