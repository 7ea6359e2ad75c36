//! What each machine should be, computed from the topology: one [`Desired`] a machine.
//!
//! Pure: it reads no file and asks no machine. Whatever opens a port is computed from
//! [`Topology::edges`](tercet_config::Topology::edges), and nothing else may.

mod application;
mod balancer;
mod database;
mod file;
mod firewall;
mod hardening;
mod project;

use tercet_config::{Machine, Tier};
use tercet_machine::Desired;
use tercet_machine::directory::Directory;
use tercet_machine::file::Owner;
use tercet_machine::firewall::Firewall;
use tercet_machine::package::Package;
use tercet_machine::sysctl::Sysctl;
use tercet_machine::unit::{Goal, Unit};

pub(crate) use self::application::unit_name;
pub use self::project::Project;
use crate::paths::{CONFIGURATION, CREDENTIALS, LIBRARY};
use crate::survey::Survey;
use crate::world::World;

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
            absent: world.dropped.clone(),
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

#[cfg(test)]
mod tests;
