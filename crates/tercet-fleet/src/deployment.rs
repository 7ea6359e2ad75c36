//! What is deployed: which releases are on the machines, which application servers run, and which of them serve.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tercet_config::Topology;

use crate::begins_digest;
use crate::paths::PROGRAM_DIGITS;
use crate::release::{ID_DIGITS, Release};
use crate::report::Report;

/// How many digits of its digest a revision is named by.
pub(crate) const REVISION_DIGITS: usize = 8;

/// One run of an application server's part: what its unit is named after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Instance {
    /// The part: `app-1`.
    pub part: String,
    /// The release it runs.
    pub release: String,
    /// The digest of all else its unit reads: a change of a secret or a setting is another instance.
    pub revision: String,
    /// The port it listens on.
    pub port: u16,
}

impl Instance {
    /// Its unit: `tercet-app-1@3f9c2ab1d0e4-1c9e04d7.service`.
    pub(crate) fn unit(&self) -> String {
        format!("tercet-{}@{}-{}.service", self.part, self.release, self.revision)
    }

    /// Whether its fields can be part of a path: they come from a machine.
    fn is_well_formed(&self) -> bool {
        begins_digest(&self.release, ID_DIGITS) && begins_digest(&self.revision, REVISION_DIGITS)
    }
}

/// The state of the application tier on all machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deployment {
    /// The complete releases, the one used last first.
    pub releases: Vec<Release>,
    /// The application servers whose part belongs to their machine, running or not.
    pub instances: Vec<Instance>,
    /// What the balancer hands requests to: one instance a part.
    pub serving: BTreeMap<String, Instance>,
    /// Application servers whose part is not in the file, or on another machine there. By machine.
    pub strays: BTreeMap<String, Vec<Instance>>,
    /// tercet's own binaries, by how their digests begin.
    pub programs: BTreeSet<String>,
}

impl Deployment {
    /// As the machines tell; names that could not be ours are ignored, since they become paths on other machines.
    pub(crate) fn of<'a>(
        topology: &Topology,
        reports: impl Iterator<Item = (&'a str, &'a Report)> + Clone,
    ) -> Self {
        let mut deployment = Self::default();
        let serving: BTreeMap<&String, u16> = reports
            .clone()
            .flat_map(|(_, report)| &report.serving)
            .map(|(part, port)| (part, *port))
            .collect();
        for (machine, report) in reports {
            for release in report.releases.iter().filter(|release| begins_digest(&release.id, ID_DIGITS)) {
                if !deployment.releases.contains(release) {
                    deployment.releases.push(release.clone());
                }
            }
            let programs = report.programs.iter().filter(|name| begins_digest(name, PROGRAM_DIGITS));
            deployment.programs.extend(programs.cloned());
            for instance in report.instances.iter().map(|(it, _)| it).filter(|it| it.is_well_formed()) {
                let here = topology
                    .parts()
                    .iter()
                    .any(|part| part.name == instance.part && topology.machine_of(part).name == machine);
                if !here {
                    deployment.strays.entry(machine.to_owned()).or_default().push(instance.clone());
                    continue;
                }
                deployment.instances.push(instance.clone());
                if serving.get(&instance.part) == Some(&instance.port) {
                    deployment.serving.insert(instance.part.clone(), instance.clone());
                }
            }
        }
        deployment
    }

    /// The release of this id.
    pub(crate) fn release(&self, id: &str) -> Option<&Release> {
        self.releases.iter().find(|release| release.id == id)
    }
}
