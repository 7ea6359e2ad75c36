//! The deployed state: the releases on the machines, the application servers that run, and those that get requests.

use std::collections::{BTreeMap, BTreeSet};

use std::net::{IpAddr, SocketAddr};

use tercet_config::{Tier, Topology};

use crate::instance::Instance;
use crate::paths::PROGRAM_DIGITS;
use crate::release::{ID_DIGITS, Release};
use crate::remembered::Remembered;
use crate::report::Report;
use crate::{begins_digest, website};

/// An instance on its machine.
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
    /// Whether it is the same instance on the same machine, regardless of the address.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.machine == other.machine && self.instance == other.instance
    }
}

/// An application server that gets requests.
#[derive(Clone, Debug)]
pub(crate) struct Serving<'r> {
    /// The balancer's name for it.
    pub name: String,
    /// The instance.
    pub placed: Placed,
    /// Its release.
    pub release: &'r Release,
    /// Whether the release's static files are on the balancer's machine.
    pub has_website: bool,
}

/// The state of the application tier on all machines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deployment {
    /// The complete releases, the one used last first.
    pub releases: Vec<Release>,
    /// The application servers on the machine that the file gives to their part, running or not.
    pub instances: Vec<Instance>,
    /// The application servers that get requests, by the balancer's name for each: a part of this file or of an earlier one.
    pub serving: BTreeMap<String, Placed>,
    /// The balancer's servers that no machine reports: they are on a machine that cannot be reached.
    pub unknown: BTreeSet<String>,
    /// Application servers whose part is not in the file, or on another machine in it; by machine.
    pub strays: BTreeMap<String, Vec<Instance>>,
    /// The names of the static files that are complete on the balancer's machine.
    pub websites: BTreeSet<String>,
    /// tercet's own binaries, by how their digests begin.
    pub programs: BTreeSet<String>,
}

impl Deployment {
    /// Computes it from the machines' reports; malformed names are ignored, since they become paths on other machines.
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
            let balances =
                topology.machines().iter().any(|it| it.name == machine && it.tiers.contains(&Tier::Balancer));
            if balances {
                let websites =
                    report.websites.iter().filter(|name| begins_digest(name, website::NAME_DIGITS));
                deployment.websites.extend(websites.cloned());
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
            // The balancer has the previous address of a machine that moved.
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
