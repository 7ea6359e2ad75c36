//! What is deployed: which releases are on the machines, which application servers run, and which of them serve.

use std::collections::{BTreeMap, BTreeSet};

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use tercet_config::{Tier, Topology};

use crate::begins_digest;
use crate::paths::PROGRAM_DIGITS;
use crate::release::{ID_DIGITS, Release};
use crate::remembered::Remembered;
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

/// An application server where it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The machine.
    pub machine: String,
    /// Where the balancer reaches it.
    pub address: SocketAddr,
    /// The application server.
    pub instance: Instance,
}

impl Placed {
    /// Whether it is the same server on the same machine, wherever that is reached.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.machine == other.machine && self.instance == other.instance
    }
}

/// An application server that gets requests.
#[derive(Clone, Debug)]
pub(crate) struct Serving<'r> {
    /// What the balancer calls it.
    pub name: String,
    /// Where it runs.
    pub placed: Placed,
    /// What it runs.
    pub release: &'r Release,
}

/// The state of the application tier on all machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deployment {
    /// The complete releases, the one used last first.
    pub releases: Vec<Release>,
    /// The application servers whose part belongs to their machine, running or not.
    pub instances: Vec<Instance>,
    /// What the balancer hands requests to, by its name for it: of a part of the file or of an earlier one.
    pub serving: BTreeMap<String, Placed>,
    /// What the balancer hands requests to that no machine knows: it is on one that cannot be reached.
    pub unknown: BTreeSet<String>,
    /// Application servers whose part is not in the file, or on another machine there. By machine.
    pub strays: BTreeMap<String, Vec<Instance>>,
    /// tercet's own binaries, by how their digests begin.
    pub programs: BTreeSet<String>,
}

impl Deployment {
    /// As the machines tell; names that could not be ours are ignored, since they become paths on other machines.
    pub(crate) fn of<'a>(
        topology: &Topology,
        leaving: &[&Remembered],
        reports: impl Iterator<Item = (&'a str, &'a Report)> + Clone,
    ) -> Self {
        let mut deployment = Self::default();
        let serving: BTreeMap<&String, SocketAddr> = reports
            .clone()
            .flat_map(|(machine, report)| {
                let here = address_of(topology, leaving, machine);
                // Loopback is the balancer's own machine.
                report.serving.iter().map(move |(name, address)| match here {
                    Some(here) if address.ip().is_loopback() => (name, SocketAddr::new(here, address.port())),
                    _ => (name, *address),
                })
            })
            .collect();
        let mut everywhere = Vec::new();
        for (machine, report) in reports {
            for release in report.releases.iter().filter(|release| begins_digest(&release.id, ID_DIGITS)) {
                if !deployment.releases.contains(release) {
                    deployment.releases.push(release.clone());
                }
            }
            let programs = report.programs.iter().filter(|name| begins_digest(name, PROGRAM_DIGITS));
            deployment.programs.extend(programs.cloned());
            for instance in report.instances.iter().map(|(it, _)| it).filter(|it| it.is_well_formed()) {
                everywhere.push((machine, instance));
                let here = topology
                    .parts()
                    .iter()
                    .any(|part| part.name == instance.part && topology.machine_of(part).name == machine);
                if !here {
                    deployment.strays.entry(machine.to_owned()).or_default().push(instance.clone());
                    continue;
                }
                deployment.instances.push(instance.clone());
            }
        }
        for (name, address) in serving {
            let at_port = everywhere.iter().filter(|(_, instance)| instance.port == address.port());
            let at_address = at_port
                .clone()
                .find(|(machine, _)| address_of(topology, leaving, machine) == Some(address.ip()));
            // A machine that moved is no longer where the balancer was told.
            let by_name = || {
                at_port.clone().find(|(machine, instance)| {
                    instance.part == *name && topology.machines().iter().any(|it| it.name == *machine)
                })
            };
            let found = at_address.or_else(by_name);
            let placed = found.and_then(|(machine, instance)| {
                let address = seen_by_the_balancer(topology, leaving, machine)?;
                let address = SocketAddr::new(address, instance.port);
                Some(Placed { machine: (*machine).to_owned(), address, instance: (*instance).clone() })
            });
            match placed {
                Some(placed) => drop(deployment.serving.insert(name.clone(), placed)),
                None => drop(deployment.unknown.insert(name.clone())),
            }
        }
        deployment
    }

    /// The application servers on a machine, in the file or not.
    pub(crate) fn on<'d>(
        &'d self,
        topology: &'d Topology,
        machine: &'d str,
    ) -> impl Iterator<Item = &'d Instance> {
        let here = self.instances.iter().filter(move |instance| {
            let parts = topology.parts().iter();
            parts.clone().any(|it| it.name == instance.part && topology.machine_of(it).name == machine)
        });
        here.chain(self.strays.get(machine).into_iter().flatten())
    }

    /// The release of this id.
    pub(crate) fn release(&self, id: &str) -> Option<&Release> {
        self.releases.iter().find(|release| release.id == id)
    }
}

/// The address of a machine of the file, or of one that leaves.
fn address_of(topology: &Topology, leaving: &[&Remembered], machine: &str) -> Option<IpAddr> {
    let leaving = leaving.iter().map(|it| &it.machine);
    topology.machines().iter().chain(leaving).find(|it| it.name == machine).map(|it| it.address)
}

/// Where the balancer of the file reaches a machine.
pub(crate) fn seen_by_the_balancer(
    topology: &Topology,
    leaving: &[&Remembered],
    machine: &str,
) -> Option<IpAddr> {
    let balancer = topology.machines().iter().find(|it| it.tiers.contains(&Tier::Balancer))?;
    if balancer.name == machine {
        return Some(std::net::Ipv4Addr::LOCALHOST.into());
    }
    address_of(topology, leaving, machine)
}
