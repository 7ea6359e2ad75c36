//! A project's machines, as the verbs that work on them see them: opened with the operator's own ssh, watched
//! on the terminal.

mod show;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use tercet_balancer::config::Certificate;
use tercet_balancer::tls::Tls;
use tercet_config::{Machine, Reach};
use tercet_database::migration::Migrations;
use tercet_fleet::Fleet;
use tercet_fleet::fleet::Operator;
use tercet_fleet::remembered::Remembered;
use tercet_fleet::rotation::{self, Kind};
use tercet_fleet::ssh::{Remote, Ssh};

pub(crate) use self::show::{Show, table};
use crate::cli;
use crate::failure::Failure;
use crate::project::Project;

/// What is needed to open a project's machines.
pub(crate) struct Machines {
    project: Project,
    ssh: Ssh,
    binary: PathBuf,
    interrupted: Arc<AtomicBool>,
    remembered: Vec<Remembered>,
    gone: OnceLock<Vec<Remembered>>,
}

impl Machines {
    /// What an apply leaves to the person: migrations of a database that tercet does not run. Only its own URL leads there,
    /// perhaps only from the application machines, and its role need not own what the migrations change.
    ///
    /// # Errors
    /// The migrations cannot be read.
    pub(crate) fn left_to_the_person(&self) -> Result<Option<String>, Failure> {
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

    /// Reads the project and sees to Ctrl-C: the first lets the step at hand end, the second ends at once.
    pub(crate) fn of(arguments: &cli::Machines) -> Result<Self, Failure> {
        let machines = Self::without_certificates(arguments)?;
        check_certificates(&machines.project)?;
        Ok(machines)
    }

    /// The same for what needs none of the certificates that tercet.toml names: a new clone may not have them yet.
    pub(crate) fn without_certificates(arguments: &cli::Machines) -> Result<Self, Failure> {
        let project = Project::open(&arguments.folder)?;
        if project.topology.only_this_machine() {
            return Err(Failure::input_message(
                "tercet.toml names no machines\nhint: add a [[machine]] for each; `tercet up` runs everything on this one",
            ));
        }
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&interrupted))?;
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        let binary = std::env::current_exe().context("tercet's own file")?;
        let remembered = tercet_fleet::remembered::read(&project.folder)?;
        let ssh = Ssh::new(arguments.ssh_config.clone())?;
        Ok(Self { project, ssh, binary, interrupted, remembered, gone: OnceLock::new() })
    }

    /// Reaches all machines.
    pub(crate) fn open<'a>(
        &'a self,
        show: &'a Show,
        take_over: bool,
        forget: &'a [String],
    ) -> anyhow::Result<Fleet<'a>> {
        let Project { topology, folder } = &self.project;
        let operator = Operator { take_over, forget, ..self.operator() };
        Fleet::open(topology, folder, &self.ssh, &operator, &|it| show.tell(&it))
    }

    /// Reaches the machines that can be, to take all of the project down.
    pub(crate) fn open_to_destroy<'a>(
        &'a self,
        show: &'a Show,
        forget: &'a [String],
    ) -> anyhow::Result<Fleet<'a>> {
        let Project { topology, folder } = &self.project;
        let operator = Operator { forget, ..self.operator() };
        Fleet::open_to_destroy(topology, folder, &self.ssh, &operator, &|it| show.tell(&it))
    }

    /// What the project is called.
    pub(crate) fn name(&self) -> &str {
        self.project.topology.name()
    }

    /// Reaches the machines that can be, to look at them; why the others cannot, by name.
    pub(crate) fn open_what_is_there(&self) -> anyhow::Result<(Fleet<'_>, Vec<(String, anyhow::Error)>)> {
        let Project { topology, folder } = &self.project;
        Fleet::open_what_is_there(topology, folder, &self.ssh, &self.operator(), &|_| {})
    }

    /// Finishes a rotation that was cut off after its last phase; which.
    pub(crate) fn finish_rotation(&self) -> anyhow::Result<Option<Kind>> {
        rotation::finish(&self.project.folder)
    }

    /// What is to be said of a rotation that is not over.
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

    /// The machines whose name or tier is among `wanted`, all when it is empty, by ssh alone.
    pub(crate) fn remotes(&self, wanted: &[String]) -> Result<Vec<(&Machine, Remote<'_>)>, Failure> {
        let machines = self.project.topology.machines();
        for name in wanted {
            let known = |machine: &Machine| machine.name == *name || carries(machine, name);
            if !machines.iter().any(known) {
                let names: Vec<&str> = machines.iter().map(|machine| machine.name.as_str()).collect();
                return Err(Failure::input_message(format!(
                    "no machine and no tier is called {name}\nhint: there are {}, and the tiers balancer, application, database",
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

    /// What tercet.toml means, and the folder it is in.
    pub(crate) fn project(&self) -> &Project {
        &self.project
    }

    /// Set when the person wants to stop.
    pub(crate) fn stop(&self) -> &AtomicBool {
        &self.interrupted
    }

    /// Whether the person wants to stop.
    pub(crate) fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

/// A certificate without its key would leave nobody to open the door.
fn check_certificates(project: &Project) -> Result<(), Failure> {
    let pairs = project.topology.balancer().tls.iter().flat_map(|tls| &tls.certificates);
    let files = pairs.map(|pair| Certificate {
        certificate: project.folder.join(&pair.certificate),
        key: project.folder.join(&pair.key),
    });
    match Tls::load(&files.collect::<Vec<_>>()) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::input_message(error.to_string())),
    }
}

fn carries(machine: &Machine, tier: &str) -> bool {
    machine.tiers.iter().any(|it| it.to_string() == tier)
}

/// User and host, for the messages other operators get.
fn whoami() -> String {
    let user =
        std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "somebody".to_owned());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{user}@{host}")
}
