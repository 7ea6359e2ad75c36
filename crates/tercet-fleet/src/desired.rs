//! What each machine should be, computed from the topology: one [`Desired`] a machine.
//!
//! Pure: it reads no file and asks no machine. Whatever opens a port is computed from
//! [`Topology::edges`](tercet_config::Topology::edges), and nothing else may.

mod application;
mod balancer;
mod database;
mod firewall;
mod hardening;

use std::path::PathBuf;

use tercet_config::{Machine, Tier, Topology};
use tercet_machine::Desired;
use tercet_machine::directory::Directory;
use tercet_machine::file::{Contents, File, Owner};
use tercet_machine::firewall::Firewall;
use tercet_machine::package::Package;
use tercet_machine::sysctl::Sysctl;
use tercet_machine::unit::{Goal, Unit};

pub(crate) use self::application::unit_name;
pub(crate) use self::balancer::ADMIN_SOCKET;
use crate::secrets::Secrets;
use crate::survey::Survey;
use crate::world::World;

/// Where configuration goes on a machine.
pub(crate) const CONFIGURATION: &str = "/etc/tercet";
/// Where binaries and releases go.
pub(crate) const LIBRARY: &str = "/usr/local/lib/tercet";
/// Where secrets go: root's alone; systemd hands each unit what it needs.
pub(crate) const CREDENTIALS: &str = "/etc/tercet/credentials";

/// What all machines of a project share.
#[derive(Debug)]
pub struct Project<'a> {
    /// What the person wrote.
    pub topology: &'a Topology,
    /// The secrets and certificates, kept by the operator.
    pub secrets: &'a Secrets,
    /// Where tercet's own binary is on every machine.
    pub program: &'a str,
}

impl Project<'_> {
    /// What `machine` should be, while the application servers of `world` run.
    pub fn desired(&self, machine: &Machine, survey: &Survey, world: &World) -> Desired {
        let mut desired = Desired {
            packages: vec![Package("nftables".to_owned())],
            directories: vec![
                Directory { path: CONFIGURATION.into(), owner: Owner::root(), mode: 0o755 },
                Directory { path: CREDENTIALS.into(), owner: Owner::root(), mode: 0o700 },
                Directory { path: LIBRARY.into(), owner: Owner::root(), mode: 0o755 },
            ],
            files: vec![Firewall::boot_unit()],
            sysctls: vec![Sysctl { key: "net.core.somaxconn".to_owned(), value: "4096".to_owned() }],
            firewall: Some(firewall::of(self.topology, machine, survey)),
            ..Desired::default()
        };
        desired.units.push(Unit {
            name: Firewall::BOOT_UNIT.to_owned(),
            enabled: Some(true),
            // It only loads at boot what is in force already: running it now would go round the confirmation.
            goal: Goal::Any,
            restart_when: vec![],
            reload_when: vec![],
        });
        for tier in &machine.tiers {
            match tier {
                Tier::Database => database::add(&mut desired, self, machine, survey),
                Tier::Application => application::add(&mut desired, self, machine, world),
                // A balancer in front of nothing would answer 503: it comes when something serves.
                Tier::Balancer if world.serving.is_empty() => {}
                Tier::Balancer => balancer::add(&mut desired, self, world),
            }
        }
        desired
    }
}

/// A unit's file.
pub(crate) fn unit_file(name: &str, text: String) -> File {
    File {
        path: PathBuf::from("/etc/systemd/system").join(name),
        contents: Contents::Text(text),
        owner: Owner::root(),
        mode: 0o644,
    }
}

/// A file of root's that anybody may read.
pub(crate) fn public_file(path: impl Into<PathBuf>, text: String) -> File {
    File { path: path.into(), contents: Contents::Text(text), owner: Owner::root(), mode: 0o644 }
}

#[cfg(test)]
mod tests;
