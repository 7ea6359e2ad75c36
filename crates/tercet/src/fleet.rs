//! A project's machines, for the commands that work on them: opened over the operator's ssh, with progress on the
//! terminal.

mod spinner;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use tercet_balancer::config::Certificate;
use tercet_balancer::tls::Tls;
use tercet_balancer::users::Users;
use tercet_config::{Machine, Reach};
use tercet_database::migration::Migrations;
use tercet_fleet::Fleet;
use tercet_fleet::fleet::Operator;
use tercet_fleet::remembered::Remembered;
use tercet_fleet::rotation::{self, Kind};
use tercet_fleet::ssh::{Remote, Ssh};

pub(crate) use self::spinner::{Spinner, table};
use crate::cli;
use crate::failure::Failure;
use crate::project::Project;

/// A project whose machines can be opened.
pub(crate) struct Machines {
    project: Project,
    ssh: Ssh,
    binary: PathBuf,
    interrupted: Arc<AtomicBool>,
    remembered: Vec<Remembered>,
    gone: OnceLock<Vec<Remembered>>,
}

impl Machines {
    /// A note about migrations that an apply does not run, because tercet does not run the database: it may be reachable from
    /// the application machines only, and the role of its URL need not own what the migrations change.
    ///
    /// # Errors
    /// The migrations cannot be read.
    pub(crate) fn unapplied_migrations(&self) -> Result<Option<String>, Failure> {
        let database = self.project.topology.database();
        if database.url.is_none() {
            return Ok(None);
        }
        let count = Migrations::read(&self.project.folder.join(&database.migrations))
            .map_err(|error| Failure::input_message(error.to_string()))?
            .count();
        Ok((count > 0).then(|| {
            format!(
                "database: the {count} files in {} are not applied: tercet does not run this database, [database] url \
                 names it\nhint: apply what is new with psql, as the role that owns the tables, before the release that \
                 needs it",
                database.migrations.display()
            )
        }))
    }

    /// Reads the project and handles Ctrl-C: the first lets the current operation finish, the second exits at once.
    pub(crate) fn of(arguments: &cli::Machines) -> Result<Self, Failure> {
        let machines = Self::without_certificates(arguments)?;
        check_balancer(&machines.project)?;
        Ok(machines)
    }

    /// The same without loading the certificates that tercet.toml names: a new clone may not have them yet.
    pub(crate) fn without_certificates(arguments: &cli::Machines) -> Result<Self, Failure> {
        let project = Project::open(&arguments.folder)?;
        if project.topology.only_this_machine() {
            return Err(Failure::input_message(
                "tercet.toml names no machines\nhint: add a [[machine]] for each; `tercet up` runs everything on this one",
            ));
        }
        let interrupted = Arc::new(AtomicBool::new(false));
        interruptible(&interrupted)?;
        let binary = std::env::current_exe().context("tercet's own file")?;
        let remembered = tercet_fleet::remembered::read(&project.folder)?;
        let ssh = Ssh::new(arguments.ssh_config.clone())?;
        Ok(Self { project, ssh, binary, interrupted, remembered, gone: OnceLock::new() })
    }

    /// Opens a connection to all machines.
    pub(crate) fn open<'a>(
        &'a self,
        spinner: &'a Spinner,
        take_over: bool,
        forget: &'a [String],
    ) -> anyhow::Result<Fleet<'a>> {
        let Project { topology, folder } = &self.project;
        let operator = Operator { take_over, forget, ..self.operator() };
        Fleet::open(topology, folder, &self.ssh, &operator, &|it| spinner.print(&it))
    }

    /// Opens the machines that can be reached, to take the project down.
    pub(crate) fn open_to_destroy<'a>(
        &'a self,
        spinner: &'a Spinner,
        forget: &'a [String],
    ) -> anyhow::Result<Fleet<'a>> {
        let Project { topology, folder } = &self.project;
        let operator = Operator { forget, ..self.operator() };
        Fleet::open_to_destroy(topology, folder, &self.ssh, &operator, &|it| spinner.print(&it))
    }

    /// The project's name.
    pub(crate) fn name(&self) -> &str {
        self.project.topology.name()
    }

    /// Opens the machines that can be reached, for reading; returns the errors of the others by name.
    pub(crate) fn open_reachable(&self) -> anyhow::Result<(Fleet<'_>, Vec<(String, anyhow::Error)>)> {
        let Project { topology, folder } = &self.project;
        Fleet::open_what_is_there(topology, folder, &self.ssh, &self.operator(), &|_| {})
    }

    /// Completes a rotation that was interrupted after its last phase, and returns its kind.
    pub(crate) fn finish_rotation(&self) -> anyhow::Result<Option<Kind>> {
        rotation::finish(&self.project.folder)
    }

    /// A note about an unfinished rotation.
    pub(crate) fn unfinished_rotation(&self) -> anyhow::Result<Option<String>> {
        rotation::note(&self.project.folder)
    }

    fn operator(&self) -> Operator<'_> {
        Operator {
            name: whoami(),
            binary: &self.binary,
            take_over: false,
            interrupted: &self.interrupted,
            remembered: &self.remembered,
            forget: &[],
            gone: &self.gone,
        }
    }

    /// The machines whose name or tier is in `wanted` (all if it is empty), over ssh without the agent.
    pub(crate) fn remotes(&self, wanted: &[String]) -> Result<Vec<(&Machine, Remote<'_>)>, Failure> {
        let machines = self.project.topology.machines();
        for name in wanted {
            let known = |machine: &Machine| machine.name == *name || carries(machine, name);
            if !machines.iter().any(known) {
                let names: Vec<&str> = machines.iter().map(|machine| machine.name.as_str()).collect();
                return Err(Failure::input_message(format!(
                    "there is no machine or tier {name}\nhint: the machines are {}; the tiers are balancer, application, database, backup, monitor",
                    names.join(", ")
                )));
            }
        }
        let chosen = machines.iter().filter(|machine| {
            wanted.is_empty() || wanted.iter().any(|name| machine.name == *name || carries(machine, name))
        });
        Ok(chosen
            .filter_map(|machine| match &machine.reach {
                Reach::Ssh(destination) => Some((machine, self.ssh.to(&machine.name, destination))),
                Reach::ThisMachine => None,
            })
            .collect())
    }

    /// The project.
    pub(crate) fn project(&self) -> &Project {
        &self.project
    }

    /// Set by Ctrl-C.
    pub(crate) fn stop(&self) -> &AtomicBool {
        &self.interrupted
    }

    /// Whether Ctrl-C was pressed.
    pub(crate) fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

/// Handles Ctrl-C and SIGTERM: the first sets `interrupted`, the second exits at once.
pub(crate) fn interruptible(interrupted: &Arc<AtomicBool>) -> std::io::Result<()> {
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(interrupted))?;
        signal_hook::flag::register(signal, Arc::clone(interrupted))?;
    }
    Ok(())
}

/// Loads the certificates and the users of routes as the balancer would: what cannot be used must not be deployed.
fn check_balancer(project: &Project) -> Result<(), Failure> {
    let pairs = project.topology.balancer().tls.iter().flat_map(|tls| &tls.certificates);
    let files = pairs.map(|pair| Certificate {
        certificate: project.folder.join(&pair.certificate),
        key: project.folder.join(&pair.key),
    });
    Tls::load(&files.collect::<Vec<_>>()).map_err(|error| Failure::input_message(error.to_string()))?;
    for users in &project.topology.balancer().users {
        Users::load(&project.folder.join(users))
            .map_err(|error| Failure::input_message(error.to_string()))?;
    }
    Ok(())
}

fn carries(machine: &Machine, tier: &str) -> bool {
    machine.tiers.iter().any(|it| it.to_string() == tier)
}

/// `user@host`, for messages to other operators.
fn whoami() -> String {
    let user =
        std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "unknown".to_owned());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{user}@{host}")
}
