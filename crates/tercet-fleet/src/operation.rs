//! The operations of an execution plan, each on one machine.
//!
//! An operation is idempotent: repeated after an interruption, it ends in the same state. It declares its precondition, its
//! request to the agent, and its inverse, if it has one.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use tercet_database::RecoveryTarget;
use tercet_machine::unit::{Goal, Unit};
use tercet_machine::{Desired, Step};

use crate::agent::{Change, Query};
use crate::backup::Task;
use crate::backup::replace::Replaced;
use crate::deployment::Placed;
use crate::identity::{Data, Identity};
use crate::instance::Instance;
use crate::migrate::Migrate;
use crate::program_migration::{OwnerLogin, ProgramMigration};
use crate::release::{Kind, Release};

/// Seconds until the balancer must find a ready server healthy.
const ROTATION_SECONDS: u64 = 20;

/// An operation on one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The machine's name.
    pub machine: String,
    /// The operation.
    pub action: Action,
}

/// The operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Records the machine's identity; that of another project is refused or replaced.
    Identify {
        /// The identity.
        identity: Identity,
        /// Whether it replaces the identity of another project.
        take_over: bool,
    },
    /// Records the location of the project's data.
    RecordData {
        /// The machine with the PostgreSQL that contains it.
        from: String,
        /// The database.
        database: String,
    },
    /// Brings the machine to a desired state.
    Converge {
        /// The desired state.
        desired: Box<Desired>,
        /// The data its database must contain, once the project has some.
        data: Option<Data>,
        /// The steps that the survey predicts.
        steps: Vec<Step>,
    },
    /// Copies a release's files to the machine.
    Ship {
        /// The release.
        release: Release,
    },
    /// Copies a release's static files to the balancer's machine.
    ShipWebsite {
        /// The release's id.
        release: String,
        /// The name of their folder.
        website: String,
    },
    /// Runs the release's build command; expects a shipped release.
    Build {
        /// The release.
        release: Release,
    },
    /// Applies migrations and grants the roles' privileges; expects a running PostgreSQL.
    Migrate {
        /// All migrations of the project.
        migrate: Migrate,
        /// The release that they are for; its restore point precedes them.
        release: String,
        /// The names of the new ones.
        new: Vec<String>,
    },
    /// Lets the database's owner log in over the network with a password, or no longer.
    SetOwnerLogin {
        /// The login.
        login: OwnerLogin,
        /// The machine that it comes from.
        from: String,
    },
    /// Runs the release's command that migrates the database; expects a complete release.
    MigrateByProgram {
        /// What it needs.
        migration: Box<ProgramMigration>,
    },
    /// Starts an application server beside the present one; expects a complete release.
    Start {
        /// The application server.
        instance: Instance,
        /// Its unit and the files that the unit reads.
        desired: Box<Desired>,
        /// A path that exists if the release is complete.
        expects: PathBuf,
    },
    /// Waits until an application server is ready.
    AwaitReady {
        /// The application server.
        instance: Instance,
        /// How to find out.
        readiness: Readiness,
    },
    /// Makes the balancer send a part's requests to another instance, or to none.
    Rotate {
        /// The part.
        part: String,
        /// The instance that gets the requests.
        to: Option<Placed>,
        /// The balancer's new configuration, and its reload.
        desired: Box<Desired>,
        /// The instance that got them before.
        from: Option<Placed>,
        /// The previous configuration.
        before: Box<Desired>,
    },
    /// Waits until the balancer finds servers healthy, and others are no longer in rotation.
    AwaitRotation {
        /// Their names and addresses.
        servers: Vec<(String, SocketAddr)>,
        /// The names of the others.
        gone: Vec<String>,
    },
    /// Drains an application server and stops it.
    Stop {
        /// The application server.
        instance: Instance,
        /// Its readiness check, for the inverse operation.
        readiness: Readiness,
    },
    /// Marks a release as the one used last: the target of a rollback.
    MarkUsed {
        /// The release.
        release: Release,
    },
    /// Removes recorded resources from the machine.
    Retire {
        /// The description.
        what: &'static str,
        /// The desired state that removes them.
        desired: Box<Desired>,
        /// The steps that the survey predicts.
        steps: Vec<Step>,
    },
    /// Terminates the database sessions from machines that left the project.
    EndSessions {
        /// The machines and their addresses.
        from: Vec<(String, IpAddr)>,
        /// The port the cluster's Unix socket is named after.
        port: u16,
    },
    /// Drops the project's database and its roles.
    DropDatabase {
        /// The data it must contain.
        data: Data,
        /// The port the cluster's Unix socket is named after.
        port: u16,
    },
    /// Removes tercet's binaries and state, and last the machine's identity.
    Erase,
    /// Initialises the repository of the backups; expects a running PostgreSQL that archives.
    InitialiseRepository {
        /// Whether it has backups of another cluster.
        is_another_cluster: bool,
    },
    /// Waits until the write-ahead log arrives in the repository.
    CheckArchive,
    /// Starts a task that goes on by itself.
    StartTask {
        /// The task.
        task: Task,
    },
    /// Waits until a task has ended.
    AwaitTask {
        /// The task.
        task: Task,
    },
    /// Has PostgreSQL archive the write-ahead log up to now, so that a restore can reach the last minute.
    Archive,
    /// Has a copy of the database as it was be restored beside it, and served for a day.
    RestoreCopy {
        /// What it was.
        target: RecoveryTarget,
    },
    /// Removes the copy.
    DropCopy,
    /// Makes and verifies a copy that is to replace the database.
    PrepareReplacement {
        /// What it is.
        target: Replaced,
    },
    /// Replaces the database by the copy; expects a prepared one.
    ReplaceDatabase {
        /// What it is.
        target: Replaced,
    },
    /// Records that all that follows a replacement is complete.
    CompleteReplacement,
    /// Removes the data that replacements left.
    DropReplaced,
    /// Stops PostgreSQL, after the end of its write-ahead log is archived.
    StopDatabase,
    /// Removes application servers, releases and binaries beyond the retention.
    CleanUp {
        /// The application servers.
        instances: Vec<Instance>,
        /// Folders.
        paths: Vec<PathBuf>,
    },
}

/// The readiness check of an application server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// The address.
    pub address: SocketAddr,
    /// The path; without one the server is ready once it accepts connections.
    pub path: Option<String>,
    /// The seconds that it may take after its start.
    pub seconds: u64,
}

/// What an operation asks of its machine's agent.
pub(crate) enum Request {
    /// To read something, or to wait for it.
    Query(Query),
    /// To change something.
    Change(Change),
}

impl Operation {
    pub(crate) fn on(machine: &str, action: Action) -> Self {
        Self { machine: machine.to_owned(), action }
    }

    /// The steps that the survey predicts.
    pub fn steps(&self) -> &[Step] {
        match &self.action {
            Action::Converge { steps, .. } | Action::Retire { steps, .. } => steps,
            _ => &[],
        }
    }

    /// What the machine is asked to do; `None` for the operations that only the operator can do.
    pub(crate) fn request(&self) -> Option<Request> {
        let converge = |desired: &Desired, expects: &Path, data: Option<&Data>| {
            let (expects, data) = (expects.to_owned(), data.cloned());
            Request::Change(Change::Converge { desired: desired.clone(), expects, data })
        };
        let anything = Path::new("/");
        Some(match &self.action {
            Action::RecordData { .. } | Action::Erase => return None,
            Action::Identify { identity, take_over } => {
                Request::Change(Change::Identify { identity: identity.clone(), take_over: *take_over })
            }
            Action::Converge { desired, data, .. } => converge(desired, anything, data.as_ref()),
            Action::Retire { desired, .. } | Action::Rotate { desired, .. } => {
                converge(desired, anything, None)
            }
            Action::Start { desired, expects, .. } => converge(desired, expects, None),
            Action::Stop { instance, .. } => converge(&goal(instance, Goal::Stopped), anything, None),
            Action::CleanUp { instances, paths } => {
                let units = instances.iter().map(|instance| unit(instance, Goal::Absent)).collect();
                let desired = Desired { absent: paths.clone(), units, ..Desired::default() };
                converge(&desired, anything, None)
            }
            Action::Ship { release } => Request::Change(Change::Ship(release.clone())),
            Action::ShipWebsite { website, .. } => {
                Request::Change(Change::ShipWebsite { name: website.clone() })
            }
            Action::Build { release } => Request::Change(Change::Build(release.clone())),
            Action::MarkUsed { release } => Request::Change(Change::MarkUsed(release.clone())),
            Action::Migrate { migrate, release, .. } => {
                Request::Change(Change::Migrate { migrate: migrate.clone(), release: release.clone() })
            }
            Action::SetOwnerLogin { login, .. } => Request::Change(Change::SetOwnerLogin(login.clone())),
            Action::MigrateByProgram { migration } => {
                Request::Change(Change::MigrateByProgram(migration.clone()))
            }
            Action::InitialiseRepository { is_another_cluster } => {
                Request::Change(Change::InitialiseRepository { is_another_cluster: *is_another_cluster })
            }
            Action::CheckArchive => Request::Change(Change::CheckArchive),
            Action::StartTask { task } => Request::Change(Change::StartTask(task.clone())),
            Action::Archive => Request::Change(Change::Archive),
            Action::RestoreCopy { target } => Request::Change(Change::RestoreCopy(target.clone())),
            Action::DropCopy => Request::Change(Change::DropCopy),
            Action::PrepareReplacement { target } => {
                Request::Change(Change::PrepareReplacement(target.clone()))
            }
            Action::ReplaceDatabase { target } => Request::Change(Change::ReplaceDatabase(target.clone())),
            Action::CompleteReplacement => Request::Change(Change::CompleteReplacement),
            Action::DropReplaced => Request::Change(Change::DropReplaced),
            Action::StopDatabase => Request::Change(Change::StopDatabase),
            Action::AwaitTask { task } => Request::Query(Query::Task(task.clone())),
            Action::EndSessions { from, port } => {
                let addresses = from.iter().map(|(_, address)| *address).collect();
                Request::Change(Change::EndSessions { port: *port, addresses })
            }
            Action::DropDatabase { data, port } => {
                Request::Change(Change::DropDatabase { data: data.clone(), port: *port })
            }
            Action::AwaitReady { instance, readiness } => Request::Query(Query::AwaitReady {
                address: readiness.address,
                path: readiness.path.clone(),
                seconds: readiness.seconds,
                unit: instance.unit(),
            }),
            Action::AwaitRotation { servers, gone } => Request::Query(Query::AwaitRotation {
                servers: servers.clone(),
                gone: gone.clone(),
                seconds: ROTATION_SECONDS,
            }),
        })
    }

    /// The inverse operations, which restore the state before this one; none for an operation without an inverse.
    pub(crate) fn undo(&self) -> Vec<Self> {
        let actions = match &self.action {
            Action::Start { instance, .. } => {
                vec![Action::CleanUp { instances: vec![instance.clone()], paths: Vec::new() }]
            }
            Action::Rotate { part, to, desired, from, before } => {
                let back = Action::Rotate {
                    part: part.clone(),
                    to: from.clone(),
                    desired: before.clone(),
                    from: to.clone(),
                    before: desired.clone(),
                };
                let wait = from.as_ref().map(|it| Action::AwaitRotation {
                    servers: vec![(part.clone(), it.address)],
                    gone: Vec::new(),
                });
                [back].into_iter().chain(wait).collect()
            }
            Action::SetOwnerLogin { login, from } if login.password.is_some() => {
                vec![Action::SetOwnerLogin {
                    login: OwnerLogin { password: None, ..login.clone() },
                    from: from.clone(),
                }]
            }
            Action::Stop { instance, readiness } => vec![
                Action::Start {
                    instance: instance.clone(),
                    desired: Box::new(goal(instance, Goal::Running)),
                    expects: PathBuf::from("/"),
                },
                Action::AwaitReady { instance: instance.clone(), readiness: readiness.clone() },
            ],
            _ => Vec::new(),
        };
        actions.into_iter().map(|action| Self::on(&self.machine, action)).collect()
    }

    /// Whether it starts a backup or a check, or waits for it: its failure is no reason to undo a release.
    pub(crate) fn is_a_task(&self) -> bool {
        matches!(self.action, Action::StartTask { .. } | Action::AwaitTask { .. })
    }

    /// Whether it only waits for the effect of another operation.
    pub(crate) fn only_waits(&self) -> bool {
        matches!(self.action, Action::AwaitReady { .. } | Action::AwaitRotation { .. })
    }
}

/// A desired state that is one unit.
fn goal(instance: &Instance, goal: Goal) -> Desired {
    Desired { units: vec![unit(instance, goal)], ..Desired::default() }
}

fn unit(instance: &Instance, goal: Goal) -> Unit {
    Unit {
        name: instance.unit(),
        enabled: Some(goal == Goal::Running),
        goal,
        restart_when: Vec::new(),
        reload_when: Vec::new(),
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.machine)?;
        match &self.action {
            Action::Identify { identity, take_over } => {
                let verb = if *take_over { "take over for" } else { "record that it belongs to" };
                write!(f, "{verb} project {}", identity.name)?;
                match identity.generation {
                    0 => Ok(()),
                    generation => write!(f, ", secrets of generation {generation}"),
                }
            }
            Action::RecordData { from, database } => {
                write!(f, "record that the project's data is in database {database} on {from}")
            }
            Action::Converge { steps, .. } if steps.is_empty() => write!(f, "record the inventory"),
            Action::Converge { steps, .. } if steps.len() == 1 => write!(f, "converge, 1 step"),
            Action::Converge { steps, .. } => write!(f, "converge, {} steps", steps.len()),
            Action::Ship { release } => write!(f, "ship release {}", release.id),
            Action::ShipWebsite { release, .. } => write!(f, "ship the static files of release {release}"),
            Action::Build { release } => {
                write!(f, "build release {}", release.id)?;
                match &release.kind {
                    Kind::Own { build: Some(build), .. } => write!(f, ": {}", build.words("", 0).join(" ")),
                    _ => Ok(()),
                }
            }
            Action::InitialiseRepository { is_another_cluster: false } => {
                write!(f, "initialise the repository of the backups")
            }
            Action::InitialiseRepository { is_another_cluster: true } => {
                write!(f, "have the repository of the backups accept those of the new cluster")
            }
            Action::CheckArchive => write!(f, "wait until the write-ahead log arrives in the repository"),
            Action::StartTask { task } => write!(f, "start {task}"),
            Action::Archive => write!(f, "archive the write-ahead log up to now"),
            Action::RestoreCopy { target } => write!(f, "restore a copy of the database: {target}"),
            Action::DropCopy => write!(f, "remove the copy of the database"),
            Action::PrepareReplacement { target: Replaced::By(target) } => {
                write!(f, "restore a copy beside the database and verify it: {target}")
            }
            Action::PrepareReplacement { target: Replaced::ByTheOneBefore } => {
                write!(f, "recover the data before the last replacement, beside the database")
            }
            Action::ReplaceDatabase { .. } => {
                write!(
                    f,
                    "stop PostgreSQL, replace the database by the copy, and start it; the old data stays"
                )
            }
            Action::StopDatabase => {
                write!(f, "stop PostgreSQL, after the end of its write-ahead log is archived")
            }
            Action::CompleteReplacement => write!(f, "record that the replacement is complete"),
            Action::DropReplaced => write!(f, "remove the data that replacements left"),
            Action::AwaitTask { task } => write!(f, "wait for {task}"),
            Action::SetOwnerLogin { login, from } if login.password.is_some() => {
                write!(f, "give the owner of the database a password, for migrate on {from}")
            }
            Action::SetOwnerLogin { .. } => {
                write!(f, "take the owner's password away, and end its sessions over the network")
            }
            Action::MigrateByProgram { migration } => {
                let words = migration.release.migrate().map(|migrate| migrate.words("", 0).join(" "));
                write!(f, "migrate the database: {}", words.unwrap_or_default())
            }
            Action::Migrate { new, .. } if new.is_empty() => {
                write!(f, "set the roles' rights in the database")
            }
            Action::Migrate { new, .. } => write!(f, "migrate the database: {}", new.join(", ")),
            Action::Start { instance, .. } => write!(f, "start {instance}"),
            Action::AwaitReady { instance, readiness: Readiness { address, path, .. } } => {
                let path = path.as_deref().unwrap_or_default();
                write!(f, "wait until {} is ready: http://{address}{path}", instance.part)
            }
            Action::Rotate { part, to: Some(to), from: Some(from), .. } if from.machine != to.machine => {
                let (there, from) = (&to.machine, &from.machine);
                write!(
                    f,
                    "put {part} on {there}, port {}, in rotation in place of the one on {from}",
                    to.address.port()
                )
            }
            Action::Rotate { part, to: Some(to), .. } => {
                write!(f, "put {part} on port {} in rotation", to.address.port())
            }
            Action::Rotate { part, to: None, .. } => write!(f, "take {part} out of rotation"),
            Action::AwaitRotation { servers, gone } if servers.is_empty() => {
                write!(f, "wait until the balancer has removed {}", gone.join(", "))
            }
            Action::AwaitRotation { servers, .. } => {
                let names: Vec<&str> = servers.iter().map(|(name, _)| name.as_str()).collect();
                write!(f, "wait until the balancer finds {} healthy", names.join(", "))
            }
            Action::Retire { what, .. } => f.write_str(what),
            Action::EndSessions { from, .. } => {
                let from: Vec<String> =
                    from.iter().map(|(name, address)| format!("{name} ({address})")).collect();
                write!(f, "end the database sessions of {}", from.join(", "))
            }
            Action::DropDatabase { data, .. } => {
                write!(
                    f,
                    "DROP DATABASE {} AND ALL DATA IN IT, of PostgreSQL cluster {}",
                    data.database, data.cluster
                )
            }
            Action::Erase => {
                write!(f, "remove tercet's binaries, its state and last the machine's identity")
            }
            Action::Stop { instance, .. } => write!(f, "drain and stop {instance}"),
            Action::MarkUsed { release } => write!(f, "mark release {} as used", release.id),
            Action::CleanUp { instances, paths } => {
                let instances = instances.iter().map(Instance::unit);
                let paths = paths.iter().map(|path| path.display().to_string());
                write!(f, "remove {}", instances.chain(paths).collect::<Vec<_>>().join(", "))
            }
        }
    }
}
