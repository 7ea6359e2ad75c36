//! Which application servers run where, of which release: what changes while a release is rolled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::release::Release;

/// One run of an application server's part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Instance {
    /// The part: `app-1`.
    pub part: String,
    /// The release it runs.
    pub release: String,
    /// The port it listens on.
    pub port: u16,
}

/// The application tier at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct World {
    /// The releases that are kept, on every application machine.
    pub releases: Vec<Release>,
    /// tercet's own binaries on the machines, by how their digests begin.
    pub programs: BTreeSet<String>,
    /// Folders of releases and binaries that are no longer kept, on any machine.
    pub dropped: Vec<PathBuf>,
    /// What runs, on all machines.
    pub running: Vec<Instance>,
    /// What the balancer hands requests to: one instance a part.
    pub serving: BTreeMap<String, Instance>,
    /// Units that an earlier release left behind: stopped and removed. By machine.
    pub stale: BTreeMap<String, Vec<Instance>>,
}

impl World {
    /// The instances of a part.
    pub fn of<'a>(&'a self, part: &'a str) -> impl Iterator<Item = &'a Instance> {
        self.running.iter().filter(move |instance| instance.part == part)
    }
}
