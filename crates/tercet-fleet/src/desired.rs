//! The desired state of each machine, computed from the topology.
//!
//! Pure: it reads no file and asks no machine. Every open port is computed from
//! [`Topology::edges`](tercet_config::Topology::edges), and nothing else may.

mod application;
mod backup;
mod balancer;
mod check;
mod database;
mod drift;
mod egress;
mod file;
mod firewall;
mod hardening;
pub(crate) mod monitor;
mod operating_system;
mod project;
mod quoting;
mod temporary_edge;

use anyhow::Result;
use tercet_config::{Application, Machine, Server, Tier};
use tercet_machine::Desired;
use tercet_machine::directory::Directory;
use tercet_machine::firewall::Firewall;
use tercet_machine::package::Package;
use tercet_machine::path::Owner;
use tercet_machine::sysctl::Sysctl;
use tercet_machine::unit::{Goal, Unit};
use tercet_machine::user::User;

pub(crate) use self::application::{credentials_folder, instance, migration, migrator, running};
pub(crate) use self::backup::{
    CONFIGURATION as ENGINE_CONFIGURATION, KEYS as BACKUP_KEYS, programs, without_cluster,
};
pub(crate) use self::balancer::{configuration as balancer_configuration, rotation};
#[cfg(test)]
pub(crate) use self::database::hba;
pub(crate) use self::egress::{account, of as egress};
pub use self::project::Project;
pub(crate) use self::temporary_edge::TemporaryEdge;
use crate::deployment::Serving;
use crate::paths::{CONFIGURATION, CREDENTIALS, LIBRARY};
use crate::sandbox;
use crate::system::System;

impl Project<'_> {
    /// Whether a tier of a machine needs the root certificates of the web: for the certificate authority of `domains`, or for a collector
    /// of traces.
    fn verifies_the_web(&self, machine: &Machine) -> bool {
        let has = |tier: Tier| machine.tiers.contains(&tier);
        let collector = self.topology.otlp().and_then(|otlp| otlp.endpoint.as_ref());
        let traces = collector.is_some_and(|url| url.starts_with("https://"));
        let domains = !self.topology.balancer().domains.is_empty();
        has(Tier::Balancer) && (domains || traces) || has(Tier::Application) && traces
    }

    /// What `machine` should be while the application servers of `serving` get the requests: those of them that are
    /// `kept` on it run, others are nothing this says. The edges are the topology's and `temporary`.
    ///
    /// # Errors
    /// The URL of an existing database cannot be parsed.
    pub(crate) fn desired(
        &self,
        machine: &Machine,
        system: &System,
        serving: &[Serving<'_>],
        kept: &[Serving<'_>],
        temporary: &[TemporaryEdge],
    ) -> Result<Desired> {
        let ending: Vec<_> = temporary.iter().filter(|edge| edge.to.0 == machine.name).collect();
        let sysctls = [Sysctl { key: "net.core.somaxconn".to_owned(), value: "4096".to_owned() }];
        let mut desired = Desired {
            packages: vec![Package("nftables".to_owned())],
            directories: vec![
                Directory { path: CONFIGURATION.into(), owner: Owner::root(), mode: 0o755 },
                Directory { path: CREDENTIALS.into(), owner: Owner::root(), mode: 0o700 },
                Directory { path: LIBRARY.into(), owner: Owner::root(), mode: 0o755 },
            ],
            files: vec![Firewall::boot_unit(), Sysctl::boot_file(&sysctls)],
            sysctls: sysctls.to_vec(),
            firewall: Some(firewall::of(self, machine, system, temporary)?),
            ..Desired::default()
        };
        desired.units.push(Unit {
            name: Firewall::BOOT_UNIT.to_owned(),
            enabled: Some(true),
            // It loads the confirmed rules at boot: starting it now would bypass the confirmation of new rules.
            goal: Goal::Any,
            restart_when: vec![],
            reload_when: vec![],
        });
        operating_system::add(&mut desired, self.topology);
        if self.verifies_the_web(machine) {
            desired.packages.push(Package("ca-certificates".to_owned()));
        }
        for tier in &machine.tiers {
            match tier {
                // PostgreSQL's packages make their own account.
                Tier::Database | Tier::Backup => {}
                Tier::Application | Tier::Balancer | Tier::Monitor => {
                    desired.users.push(User(account(*tier).to_owned()));
                }
            }
            match tier {
                Tier::Database => database::add(&mut desired, self, machine, system, &ending),
                Tier::Application => {
                    let builds = |it: &Application| matches!(it.server, Server::Own { build: Some(_), .. });
                    if self.topology.applications().iter().any(builds) || migrator(self.topology).is_some() {
                        desired.users.push(User(sandbox::USER.to_owned()));
                    }
                    for it in kept.iter().filter(|it| it.placed.machine == machine.name) {
                        let running = running(self, machine, &it.placed.instance, it.release);
                        desired.directories.extend(running.directories);
                        desired.files.extend(running.files);
                        desired.units.extend(running.units);
                    }
                }
                // A balancer in front of nothing would answer 503: it comes when something serves.
                Tier::Balancer if serving.is_empty() => {}
                Tier::Balancer => balancer::add(&mut desired, self, machine, serving),
                // They have parts on other machines, too.
                Tier::Backup | Tier::Monitor => {}
            }
        }
        backup::add(&mut desired, self, machine, system);
        monitor::add(&mut desired, self, machine, system);
        check::add(&mut desired, self);
        drift::add(&mut desired, self, machine, system, kept);
        Ok(desired)
    }
}

#[cfg(test)]
pub(crate) mod tests;
