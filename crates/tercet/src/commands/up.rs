//! `tercet up`: all tiers on this machine, in the foreground.
//!
//! In this order: the user to run as, the private folder, ports, the database, migrations, the application servers, the
//! balancer. Then it waits for a signal and stops everything in the reverse order.

mod application;
mod balancer;
pub(crate) mod database;
mod plan;
mod ports;
pub(crate) mod private;
#[cfg(target_os = "linux")]
pub(crate) mod privileges;
mod progress;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tercet_config::Server;
use tercet_database::migration::{MigrationError, Migrations};
use tercet_database::roles;
use tercet_observe::event::SupervisorEvent;
use tercet_postgres::Target;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::LocalSet;

use self::database::Database;
use self::plan::Plan;
use self::ports::Ports;
use self::private::PrivateFolder;
use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::output::{Output, Style};
use crate::project::Project;
use crate::supervisor::{Launch, OnParentDeath, Supervisor, this_executable};

/// The names of the parts of which there is one.
const BALANCER: &str = "balancer";
const DATABASE: &str = "database";

/// Parts stop tier by tier, the highest first.
const DATABASE_TIER: u8 = 1;
const APPLICATION_TIER: u8 = 2;
const BALANCER_TIER: u8 = 3;

pub(crate) fn run(arguments: &cli::Up) -> Outcome {
    let project = Project::to_bring_up(&arguments.folder)?;
    #[cfg(target_os = "linux")]
    privileges::drop_root(&project, privileges::Running::Refused)?;
    let migrations = migrations(&project)?;
    let private = PrivateFolder::lock(&project.folder)?;
    let style = Style::of_standard_output(arguments.json);
    let names: Vec<&str> = project.topology.parts().iter().map(|part| part.name.as_str()).collect();
    let output = Output::open(style, &private.log(), &names)?;
    // On the main thread: the kernel kills the children when the thread that started them ends.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, supervise(&project, &migrations, &private, &output))
}

/// Reads the migrations before anything is started.
fn migrations(project: &Project) -> Result<Migrations, Failure> {
    let database = project.topology.database();
    let folder = project.folder.join(&database.migrations);
    if database.migrations_named && !folder.is_dir() {
        let message =
            format!("{} is not a folder\nhint: migrations in [database] names it", folder.display());
        return Err(Failure::input_message(message));
    }
    Migrations::read(&folder).map_err(|error| match error {
        MigrationError::File { .. } => Failure::Failed(error.into()),
        wrong => Failure::input_message(wrong.to_string()),
    })
}

async fn supervise(
    project: &Project,
    migrations: &Migrations,
    private: &PrivateFolder,
    output: &Output,
) -> Outcome {
    let mut stop = Stop::listen()?;
    let supervisor = Supervisor::new(output.clone());
    // Kept to the end: a part that is restarted needs the same port.
    let mut ports = Ports::default();
    let started = tokio::select! {
        started = start(project, migrations, private, output, &supervisor, &mut ports) => started,
        () = stop.signalled() => Ok(()),
    };
    if started.is_ok() && !stop.was_signalled() {
        stop.signalled().await;
    }
    let gracefully = supervisor.stop(stop.signalled()).await;
    started?;
    if gracefully {
        Ok(())
    } else {
        Err(anyhow::anyhow!("stopped at once: requests in flight were cut off").into())
    }
}

/// Starts everything, from the database to the balancer.
async fn start(
    project: &Project,
    migrations: &Migrations,
    private: &PrivateFolder,
    output: &Output,
    supervisor: &Supervisor,
    ports: &mut Ports,
) -> Outcome {
    let topology = &project.topology;
    let plan = Plan::of(topology, ports)?;

    // How migrations connect, and the URL application servers get.
    let (owner, server) = if let Some(url) = &topology.database().url {
        let url = project.reveal(url)?;
        (None, url)
    } else {
        let database = Database::prepare(project, private, plan.database, output).await?;
        let cluster = database.cluster.clone();
        supervisor.start(DATABASE_TIER, database).await?;
        let passwords = database::passwords(private)?;
        // A user's own program does not know that it must become a request role first.
        let own_program = matches!(topology.application().server, Server::Own { .. });
        let session_role = own_program.then_some(roles::AUTHENTICATED);
        let name = topology.name();
        roles::prepare(|database| cluster.superuser(database), name, &passwords, session_role)
            .await
            .context("the database's roles could not be made")?;
        let url = if own_program { database::url } else { database::socket_url };
        let owner = database::owner(&passwords.owner, &cluster, name);
        (Some(owner), url(&passwords.authenticator, &cluster, name))
    };
    if migrations.count() > 0 {
        let parse = || Target::parse(&server, &super::environment()).context("url in [database]");
        let count = migrations.apply(&owner.map_or_else(parse, Ok)?).await?;
        output.own_log().event(SupervisorEvent::MigrationsApplied { count });
    }

    let json = output.style() == Style::Json;
    let applications = plan.applications(project, private, &server, json)?;
    let starting: Vec<_> =
        applications.into_iter().map(|application| supervisor.start(APPLICATION_TIER, application)).collect();
    all(starting).await?;
    supervisor.start(BALANCER_TIER, plan.balancer(project, private, json)?).await?;
    announce(&plan, project, private, output);
    Ok(())
}

/// Runs all futures concurrently; returns the first error.
async fn all(futures: Vec<impl Future<Output = anyhow::Result<()>>>) -> anyhow::Result<()> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(|context| {
        let mut index = 0;
        while let Some(future) = futures.get_mut(index) {
            match future.as_mut().poll(context) {
                std::task::Poll::Ready(Ok(())) => drop(futures.swap_remove(index)),
                std::task::Poll::Ready(Err(error)) => return std::task::Poll::Ready(Err(error)),
                std::task::Poll::Pending => index += 1,
            }
        }
        if futures.is_empty() { std::task::Poll::Ready(Ok(())) } else { std::task::Poll::Pending }
    })
    .await
}

/// Prints that everything is up, and the addresses.
fn announce(plan: &Plan, project: &Project, private: &PrivateFolder, output: &Output) {
    let topology = &project.topology;
    let url = plan.url();
    let addresses = plan.addresses();
    output.own_log().event(SupervisorEvent::Up {
        name: topology.name(),
        address: &url,
        parts: addresses.iter().map(|(name, address)| (name.as_str(), address.as_str())).collect(),
    });
    let docs = ("docs".to_owned(), format!("{url}/docs"));
    let logs = ("log files".to_owned(), private.log().display().to_string());
    let stop = ("stop".to_owned(), format!("Ctrl-C, or kill {}", std::process::id()));
    let mut block = format!("\n  {} is up on {url}\n\n", topology.name());
    for (name, value) in addresses.iter().chain([&docs, &logs, &stop]) {
        let _ = writeln!(block, "  {name:10} {value}");
    }
    output.block(&block);
}

/// The command of a part that is tercet itself.
fn own_command(verb: &str, name: &str, config: &Path, folder: &Path, json: bool) -> anyhow::Result<Launch> {
    let mut program =
        vec![this_executable()?.into_os_string(), verb.into(), "--config".into(), config.into()];
    program.extend(["--name".into(), name.into()]);
    if json {
        program.push("--json".into());
    }
    // PGRST_ variables would take precedence over the generated configuration.
    let foreign = |name: &OsString| name.as_encoded_bytes().starts_with(b"PGRST_");
    Ok(Launch {
        program,
        environment: std::env::vars_os().filter(|(name, _)| !foreign(name)).collect(),
        inherits: false,
        folder: folder.to_owned(),
        account: None,
        low_ports: verb == BALANCER,
        on_parent_death: OnParentDeath::Kill,
        logs_json: true,
    })
}

/// A second signal within this time is a duplicate: wrappers forward signals that the terminal has sent already.
const DUPLICATE: Duration = Duration::from_millis(500);

/// The signals that stop this process: SIGINT, SIGTERM, SIGHUP.
struct Stop {
    signals: [Signal; 3],
    last: Option<Instant>,
}

impl Stop {
    fn listen() -> std::io::Result<Self> {
        let signals = [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ];
        Ok(Self { signals, last: None })
    }

    /// Whether a signal has arrived.
    fn was_signalled(&self) -> bool {
        self.last.is_some()
    }

    /// Resolves at each signal.
    async fn signalled(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            if self.last.is_none_or(|last| last.elapsed() > DUPLICATE) {
                self.last = Some(Instant::now());
                return;
            }
        }
    }
}
