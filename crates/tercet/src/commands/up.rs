//! `tercet up`: all tiers on this machine, in the foreground.
//!
//! In this order: the user to run as, the private folder, ports, the database, migrations, the application servers, the
//! balancer. Then it applies changes of the project's files until a signal, and stops everything in the reverse order.

mod application;
mod balancer;
pub(crate) mod database;
mod develop;
pub(crate) mod environment;
mod plan;
mod ports;
pub(crate) mod private;
#[cfg(target_os = "linux")]
pub(crate) mod privileges;
mod progress;
mod watch;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tercet_api::config::ConfigSource;
use tercet_config::{Application, Program, Secret, Server};
use tercet_database::migration::{Lock, MigrationError, Migrations};
use tercet_database::{Cluster, Seeds, roles};
use tercet_observe::event::SupervisorEvent;
use tercet_postgres::{Connection, Target};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::LocalSet;

use self::database::{Database, Urls};
use self::develop::Development;
use self::plan::Plan;
use self::ports::Ports;
use self::private::PrivateFolder;
use self::progress::Progress;
use self::watch::Watched;
use crate::cli;
use crate::dashboard::{Dashboard, Place};
use crate::failure::{Failure, Outcome};
use crate::output::{Output, PartLog, Style, quoted};
use crate::project::Project;
use crate::running::Board;
use crate::supervisor::{Launch, OnParentDeath, Supervisor, this_executable};

/// The folder of example rows for a development database.
pub(crate) const SEEDS: &str = "seeds";

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
    let inputs = Inputs {
        migrations: migrations(&project)?,
        seeds: seeds(&project, arguments)?,
        watched: (!arguments.no_watch).then(|| develop::state(&project)),
    };
    let private = PrivateFolder::lock(&project.folder)?;
    let style = Style::of_standard_output(arguments.json, arguments.verbose);
    let names: Vec<&str> = project.topology.parts().iter().map(|part| part.name.as_str()).collect();
    let board = Board::open(project.topology.name(), private.folder())?;
    let output = Output::open(style, &private.log(), &names, board)?;
    // On the main thread: the kernel kills the children when the thread that started them ends.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, supervise(project, inputs, &private, &output))
}

/// What is read before anything is started.
struct Inputs {
    migrations: Migrations,
    /// `None` if no seeds are applied.
    seeds: Option<Seeds>,
    /// The state of the project's files, if they are watched.
    watched: Option<Watched>,
}

/// Reads the migrations.
fn migrations(project: &Project) -> Result<Migrations, Failure> {
    let database = project.topology.database();
    let folder = project.folder.join(&database.migrations);
    if database.migrations_named && !folder.is_dir() {
        let message =
            format!("{} is not a folder\nhint: migrations in [database] names it", folder.display());
        return Err(Failure::input_message(message));
    }
    Migrations::read(&folder).map_err(invalid)
}

/// Reads the seeds; they are for tercet's own database.
fn seeds(project: &Project, arguments: &cli::Up) -> Result<Option<Seeds>, Failure> {
    if arguments.no_seeds || project.topology.database().url.is_some() {
        return Ok(None);
    }
    Seeds::read(&project.folder.join(SEEDS)).map(Some).map_err(invalid)
}

fn invalid(error: MigrationError) -> Failure {
    match error {
        MigrationError::File { .. } => Failure::Failed(error.into()),
        wrong => Failure::input_message(wrong.to_string()),
    }
}

async fn supervise(project: Project, inputs: Inputs, private: &PrivateFolder, output: &Output) -> Outcome {
    let mut stop = Stop::listen()?;
    let supervisor = Supervisor::new(output.clone());
    let Inputs { migrations, seeds, watched } = inputs;
    let start = async {
        let mut ports = Ports::default();
        let plan = RefCell::new(Plan::of(&project.topology, &mut ports)?);
        let url = project.topology.database().url.as_ref().map(|url| project.reveal(url)).transpose()?;
        // The private database has no address yet.
        let urls = Urls::all(url.as_deref().unwrap_or("postgresql://authenticator@localhost/postgres"));
        check(&plan.borrow(), &project, private, &urls)?;
        warn_of_readable_secrets(&project, &output.own_log());
        let starting = Start {
            project: &project,
            private,
            output,
            supervisor: &supervisor,
            plan: &plan,
            ports: RefCell::new(ports),
        };
        let Connections { owner, urls, statistics } = starting.database(&migrations, seeds.as_ref()).await?;
        let running = starting.servers(&urls).await?;
        let dashboard = dashboard(&project, private, output).await?;
        announce(&plan.borrow(), &project, private, output, dashboard.url());
        let log = output.own_log();
        let mut development = Development {
            private,
            supervisor: &supervisor,
            plan: &plan,
            owner,
            urls,
            running,
            seeds: seeds.is_some(),
            log,
        };
        // The ports stay reserved to the end: a part that is restarted needs the same one.
        let develop = async {
            match watched {
                Some(watched) => development.watch(project.clone(), watched).await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(develop, dashboard.run(statistics));
        Ok::<(), Failure>(())
    };
    let started = tokio::select! {
        started = start => started,
        () = stop.signalled() => Ok(()),
    };
    let gracefully = supervisor.stop(stop.signalled()).await;
    started?;
    if gracefully {
        Ok(())
    } else {
        Err(anyhow::anyhow!("stopped at once: requests in flight were cut off").into())
    }
}

/// Reads the tiers' configurations as the parts will, with the database URLs of the application servers, so that a mistake is
/// reported before anything is started or replaced.
fn check(plan: &Plan, project: &Project, private: &PrivateFolder, urls: &Urls) -> Outcome {
    for application in project.topology.applications() {
        match &application.server {
            Server::Api(_) => {
                let servers = plan.servers_of(application).into_iter().take(1);
                let servers = servers.map(|index| plan.application(index, project, private, urls));
                for server in servers {
                    check_data_api(server?.configuration())?;
                }
            }
            Server::Own { .. } => {
                environment::variables(project, application, "")
                    .map_err(|error| Failure::input_message(format!("{error:#}")))?;
            }
        }
    }
    let certificates = project.topology.balancer().tls.iter().flat_map(|tls| &tls.certificates);
    for path in certificates.flat_map(|pair| [&pair.certificate, &pair.key]) {
        let path = project.folder.join(path);
        std::fs::File::open(&path).map_err(|error| {
            let path = path.display();
            Failure::input_message(format!(
                "{path} can't be read: {error}\nhint: certificates in [balancer] names it"
            ))
        })?;
    }
    tercet_fleet::website::check(&project.topology, &project.folder)
        .map_err(|error| Failure::input_message(format!("{error:#}")))?;
    plan.balancer(project, private).map(drop)
}

/// Reads the configuration of a data API server.
fn check_data_api(config: Option<PathBuf>) -> Outcome {
    let config_path = config.clone().unwrap_or_default();
    let source = ConfigSource { file: config, environment: BTreeMap::new() };
    source.read().map(drop).map_err(|mistakes| {
        // Their places are in the generated file; the options are known by their names in tercet.toml.
        let place = format!("{}:", config_path.display());
        let lines = mistakes.lines();
        let messages = lines.lines().map(|line| match line.strip_prefix(&place) {
            Some(line) => {
                line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches([':', ' '])
            }
            None => line,
        });
        Failure::input_message(format!("tercet.toml, [api]: {}", messages.collect::<Vec<_>>().join("\n")))
    })
}

/// Logs which files with secrets other users can read. A file of another user has to be readable to be used.
fn warn_of_readable_secrets(project: &Project, log: &PartLog) {
    let topology = &project.topology;
    let jwt_secret = topology.data_api().and_then(|api| api.jwt_secret.as_ref());
    let named = [jwt_secret, topology.database().url.as_ref()].into_iter().flatten();
    let files = named.filter_map(|secret| match secret {
        Secret::File(path) => Some(path),
        Secret::Inline(_) => None,
    });
    let variables = topology.applications().iter().filter_map(|it| it.environment.file.as_ref());
    for path in files.chain(variables) {
        let Ok(metadata) = project.folder.join(path).metadata() else { continue };
        if metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o007 != 0 {
            log.event(SupervisorEvent::SecretReadable { file: &path.display().to_string() });
        }
    }
}

/// How often a part is started on another port, because a process has taken the one that was free before.
const MOVES: usize = 3;

/// A start of all parts, from the database to the balancer.
struct Start<'a> {
    project: &'a Project,
    private: &'a PrivateFolder,
    output: &'a Output,
    supervisor: &'a Supervisor,
    plan: &'a RefCell<Plan>,
    ports: RefCell<Ports>,
}

impl Start<'_> {
    /// Starts the database, migrates it, and returns how it is connected to.
    async fn database(&self, migrations: &Migrations, seeds: Option<&Seeds>) -> Result<Connections, Failure> {
        let (topology, log) = (&self.project.topology, self.output.own_log());
        let migrator;
        let mut superuser = None;
        let (owner, urls) = if let Some(url) = &topology.database().url {
            let url = self.project.reveal(url)?;
            migrator = url.clone();
            if topology.data_api().is_some() {
                reach(&url).await?;
            }
            (None, Urls::all(&url))
        } else {
            let cluster = self.cluster().await?;
            let passwords = database::passwords(self.private)?;
            // A user's own program does not know that it must become a request role first.
            let has_programs = topology.has_programs();
            let session_role = has_programs.then_some(roles::AUTHENTICATED);
            let name = topology.name();
            refuse_another_project(&cluster, name).await?;
            roles::prepare(|database| cluster.superuser(database), name, &passwords, session_role)
                .await
                .context("the database's roles could not be made")?;
            if topology.database().supabase {
                roles::prepare_for_supabase(&Arc::new(cluster.superuser(name)), name).await?;
            }
            let owner = database::owner(&passwords.owner, &cluster, name);
            superuser = Some(cluster.superuser(name));
            migrator = database::owner_url(&passwords.owner, cluster.port(), name);
            (Some(owner), Urls::of(&passwords.authenticator, &cluster, name, has_programs))
        };
        self.private.record_name(topology.name())?;
        if let (Some(owner), Some(seeds)) = (&owner, seeds) {
            seeds.announce(owner).await?;
        }
        let parse = || Target::parse(&urls.programs, &super::environment()).context("url in [database]");
        let target = || owner.clone().map_or_else(parse, Ok);
        if let (Some(granted), Some(owner)) = (topology.grants(), &owner) {
            roles::set_default_grants(owner, granted).await?;
        }
        if migrations.count() > 0 {
            let count = migrations.apply(&target()?).await?;
            log.event(SupervisorEvent::MigrationsApplied { count });
        }
        for application in topology.applications() {
            if let Some(migrate) = &application.environment.migrate {
                self.migrate(application, migrate, &target()?, &migrator).await?;
            }
        }
        if let (Some(owner), Some(seeds)) = (&owner, seeds) {
            develop::plant(seeds, owner, &log).await?;
        }
        let statistics = superuser.or_else(|| parse().ok());
        Ok(Connections { owner, urls, statistics })
    }

    /// Runs the migration of an application's program, as the owner and under the lock of migrations.
    async fn migrate(
        &self,
        application: &Application,
        migrate: &Program,
        target: &Target,
        url: &str,
    ) -> anyhow::Result<()> {
        let lock = Lock::acquire(target).await?;
        let variables = environment::variables(self.project, application, url)?;
        let name = match &application.name {
            Some(name) => format!("migrate-{name}"),
            None => "migrate".to_owned(),
        };
        let launch = application::own_program(&migrate.words("", 0), variables, self.project.folder.clone());
        let began = Instant::now();
        let progress = Progress::new(self.output);
        progress.step("running migrate");
        self.supervisor.run(&name, &launch, progress, application::program_hint).await?;
        let seconds = began.elapsed().as_secs_f64();
        self.output.own_log().event(SupervisorEvent::MigrateFinished { seconds });
        Ok(lock.release().await?)
    }

    /// Starts the private PostgreSQL.
    async fn cluster(&self) -> anyhow::Result<Rc<Cluster>> {
        let mut moves = 0;
        loop {
            let port = self.plan.borrow().database;
            let database = Database::prepare(self.project, self.private, port, self.output).await?;
            let cluster = Rc::clone(&database.cluster);
            let Err(error) = self.supervisor.start(DATABASE_TIER, database).await else {
                return Ok(cluster);
            };
            let taken = self.plan.borrow_mut().move_database(&mut self.ports.borrow_mut())?;
            self.moved(DATABASE, taken, &mut moves, error)?;
        }
    }

    /// Starts the application servers and then the balancer. Returns the configuration of each.
    async fn servers(&self, urls: &Urls) -> anyhow::Result<BTreeMap<String, String>> {
        let count = self.plan.borrow().count();
        let starting = (0..count).map(|index| self.application(index, urls)).collect();
        let mut running: BTreeMap<String, String> = all(starting).await?.into_iter().collect();
        let mut moves = 0;
        loop {
            let balancer =
                self.plan.borrow().balancer(self.project, self.private).map_err(Failure::into_error)?;
            let text = balancer.text.clone();
            let Err(error) = self.supervisor.start(BALANCER_TIER, balancer).await else {
                running.insert(BALANCER.to_owned(), text);
                break;
            };
            let taken = self.plan.borrow_mut().move_balancer(&mut self.ports.borrow_mut())?;
            self.moved(BALANCER, taken, &mut moves, error)?;
        }
        Ok(running)
    }

    async fn application(&self, index: usize, urls: &Urls) -> anyhow::Result<(String, String)> {
        let mut moves = 0;
        loop {
            let application = self.plan.borrow().application(index, self.project, self.private, urls)?;
            let started = (application.name.clone(), application.fingerprint());
            let Err(error) = self.supervisor.start(APPLICATION_TIER, application).await else {
                return Ok(started);
            };
            let taken = self.plan.borrow_mut().move_server(index, &mut self.ports.borrow_mut())?;
            self.moved(&started.0, taken, &mut moves, error)?;
        }
    }

    /// Returns the error of a start unless its reason is the port.
    fn moved(
        &self,
        name: &str,
        taken: Option<SocketAddr>,
        moves: &mut usize,
        error: anyhow::Error,
    ) -> anyhow::Result<()> {
        let Some(address) = taken.filter(|_| *moves < MOVES) else { return Err(error) };
        *moves += 1;
        self.output.own_log().event(SupervisorEvent::PortInUse { name, address: &address.to_string() });
        Ok(())
    }
}

/// Fails if the database of a URL cannot be reached: a data API server would wait for it in silence.
async fn reach(url: &str) -> anyhow::Result<()> {
    let target = Target::parse(url, &super::environment()).context("url in [database]")?;
    let connected = Connection::connect(&Arc::new(target), false).await;
    connected
        .map(drop)
        .context("the database cannot be used\nhint: url in [database] names it; is it running?")
}

/// Fails if the cluster has the database of another project, and none of this one.
async fn refuse_another_project(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    let others = roles::other_projects(&Arc::new(cluster.superuser("postgres")), name).await?;
    if let [other, ..] = &others[..] {
        anyhow::bail!(
            "the database in {} is that of the project {}, and this one is {name}\n\
             hint: put name = \"{other}\" into tercet.toml if the project or its folder was renamed; \
             to begin with an empty database, move that folder away",
            cluster.folder().display(),
            others.join(", "),
        );
    }
    Ok(())
}

/// Runs all futures concurrently; returns their values in no order, or the first error.
async fn all<T>(futures: Vec<impl Future<Output = anyhow::Result<T>>>) -> anyhow::Result<Vec<T>> {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    let mut values = Vec::new();
    std::future::poll_fn(|context| {
        let mut index = 0;
        while let Some(future) = futures.get_mut(index) {
            match future.as_mut().poll(context) {
                Poll::Ready(Ok(value)) => {
                    values.push(value);
                    drop(futures.swap_remove(index));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => index += 1,
            }
        }
        if futures.is_empty() { Poll::Ready(Ok(std::mem::take(&mut values))) } else { Poll::Pending }
    })
    .await
}

/// How the database is connected to.
struct Connections {
    /// By the owner of the private one.
    owner: Option<Target>,
    /// The URLs that application servers get.
    urls: Urls,
    /// For PostgreSQL's statistics.
    statistics: Option<Target>,
}

/// The dashboard of the project.
async fn dashboard(
    project: &Project,
    private: &PrivateFolder,
    output: &Output,
) -> Result<Rc<Dashboard>, Failure> {
    let secrets = std::fs::read_dir(private.folder().join("secrets"))
        .context("the generated passwords")?
        .filter_map(|it| Some(it.ok()?.path()));
    let secrets = secrets.chain([private.folder().join("jwt-secret")]);
    let redaction = super::dashboard::redaction(project, secrets)?;
    let place = Place { folder: project.folder.clone(), private: private.folder().to_owned() };
    let bound = Dashboard::bind(&project.topology, place, output.clone(), redaction).await;
    Ok(Rc::new(bound.context("the dashboard")?))
}

/// Prints that everything is up, and the addresses.
fn announce(plan: &Plan, project: &Project, private: &PrivateFolder, output: &Output, dashboard: String) {
    let topology = &project.topology;
    let url = plan.url();
    let addresses = plan.addresses();
    output.board().update(|state| {
        plan.complete(state);
        state.dashboard = Some(dashboard.clone());
    });
    output.own_log().event(SupervisorEvent::Up {
        name: topology.name(),
        address: &url,
        parts: addresses.iter().map(|(name, address)| (name.as_str(), address.as_str())).collect(),
    });
    let mut lines = addresses.clone();
    let mut line = |name: &str, value: String| lines.push((name.to_owned(), value));
    if let Some(docs) = plan.docs(topology) {
        line("docs", docs);
    }
    line("dashboard", dashboard);
    line("metrics", plan.metrics());
    if topology.database().url.is_none() {
        line("psql", format!("tercet sql {}", quoted(Path::new(&shown(&project.folder)))));
    }
    line("log files", shown(&private.log()));
    line("stop", format!("Ctrl-C, or kill {}", std::process::id()));
    let mut block = format!("\n  {} is up on {url}\n\n", topology.name());
    for (name, value) in lines {
        let _ = writeln!(block, "  {name:10} {value}");
    }
    output.block(&block);
    output.started();
}

/// A path as short as it can be: relative to the current folder if it is in there.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let short = path.strip_prefix(&here).unwrap_or(path);
    if short.as_os_str().is_empty() { ".".to_owned() } else { short.display().to_string() }
}

/// The command of a part that is tercet itself.
fn own_command(verb: &str, name: &str, config: &Path, folder: &Path) -> anyhow::Result<Launch> {
    let mut program =
        vec![this_executable()?.into_os_string(), verb.into(), "--config".into(), config.into()];
    // JSON, also for a terminal: its lines are shown as text, and errors are read from them.
    program.extend(["--name".into(), name.into(), "--json".into()]);
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
