//! One thing an execution plan does, to one machine.
//!
//! An operation is idempotent: repeated after a kill at any moment, it ends in the same state. It says what must be
//! true before it, and where it has an inverse, what undoes it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tercet_machine::unit::{Goal, Unit};
use tercet_machine::{Desired, Step};

use crate::deployment::{Instance, Placed};
use crate::identity::{Data, Identity};
use crate::migrate::Migrate;
use crate::release::{Kind, Release};

/// One thing to do to one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The machine's name.
    pub machine: String,
    /// What is done there.
    pub action: Action,
}

/// What an operation does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Writes down on the machine whose it is; what is there of another's is refused or taken over.
    Identify {
        /// Whose it is.
        identity: Identity,
        /// Whether that of another is taken over.
        take_over: bool,
    },
    /// Writes down on the machine where the project's data is.
    RecordData {
        /// The machine whose PostgreSQL has it.
        from: String,
        /// The database.
        database: String,
    },
    /// Brings the machine to a desired state.
    Converge {
        /// The desired state.
        desired: Box<Desired>,
        /// The data its database must be, once the project has some.
        data: Option<Data>,
        /// The steps, as far as they are known beforehand.
        steps: Vec<Step>,
    },
    /// Brings a release's files to the machine.
    Ship {
        /// The release.
        release: Release,
    },
    /// Runs the release's build command there; expects that it is shipped.
    Build {
        /// The release.
        release: Release,
    },
    /// Applies migrations, and the first time the roles' rights; expects a running PostgreSQL.
    Migrate {
        /// All migrations of the project.
        migrate: Migrate,
        /// The names of those that are new.
        new: Vec<String>,
    },
    /// Starts an application server beside the one that serves; expects that its release is complete.
    Start {
        /// The application server.
        instance: Instance,
        /// Its unit and all that unit reads.
        desired: Box<Desired>,
        /// A path that exists once the release is complete.
        expects: PathBuf,
    },
    /// Waits until an application server says that it is ready.
    AwaitReady {
        /// The application server.
        instance: Instance,
        /// Where it says so.
        address: SocketAddr,
        /// The path to ask for; without one it is ready once it accepts connections.
        path: Option<String>,
    },
    /// Has the balancer hand an application server's requests to another instance, or to none.
    Rotate {
        /// The part.
        part: String,
        /// What gets the requests.
        to: Option<Placed>,
        /// The balancer's configuration that says so, and its reload.
        desired: Box<Desired>,
        /// What got them before.
        from: Option<Placed>,
        /// The configuration that said so.
        before: Box<Desired>,
    },
    /// Waits until the balancer finds servers healthy, and others are no longer in rotation.
    AwaitRotation {
        /// Their names and where they are.
        servers: Vec<(String, SocketAddr)>,
        /// The names of the others.
        gone: Vec<String>,
    },
    /// Lets an application server finish its requests and stops it.
    Stop {
        /// The application server.
        instance: Instance,
        /// Where and by which path it says that it is ready, should it have to be started again.
        ready: (SocketAddr, Option<String>),
    },
    /// Makes a release the one used last: a rollback comes back to it.
    MarkUsed {
        /// The release.
        release: Release,
    },
    /// Takes away what was made on the machine, or some of it.
    Retire {
        /// What for, in words.
        what: &'static str,
        /// What is taken away, as a desired state.
        desired: Box<Desired>,
        /// The steps, as far as they are known beforehand.
        steps: Vec<Step>,
    },
    /// Ends the sessions on the database's machine that come from machines which are no longer the project's.
    EndSessions {
        /// The machines and their addresses.
        from: Vec<(String, IpAddr)>,
        /// The port the cluster's Unix socket is named after.
        port: u16,
    },
    /// Drops the project's database and its roles.
    DropDatabase {
        /// The data it is.
        data: Data,
        /// The port the cluster's Unix socket is named after.
        port: u16,
    },
    /// Removes tercet's binaries and state, and last whose the machine is.
    Erase,
    /// Removes application servers, releases and binaries that are no longer kept.
    CleanUp {
        /// Application servers that are not to run.
        instances: Vec<Instance>,
        /// Folders.
        paths: Vec<PathBuf>,
    },
}

impl Operation {
    pub(crate) fn on(machine: &str, action: Action) -> Self {
        Self { machine: machine.to_owned(), action }
    }

    /// The steps that are known beforehand.
    pub fn steps(&self) -> &[Step] {
        match &self.action {
            Action::Converge { steps, .. } | Action::Retire { steps, .. } => steps,
            _ => &[],
        }
    }

    /// What the machine is brought to, for the operations that are no more than that.
    pub(crate) fn desired(&self) -> Option<Desired> {
        match &self.action {
            Action::Converge { desired, .. }
            | Action::Retire { desired, .. }
            | Action::Start { desired, .. }
            | Action::Rotate { desired, .. } => Some((**desired).clone()),
            Action::Stop { instance, .. } => Some(goal(instance, Goal::Stopped)),
            Action::CleanUp { instances, paths } => Some(Desired {
                absent: paths.clone(),
                units: instances.iter().map(|instance| unit(instance, Goal::Absent)).collect(),
                ..Desired::default()
            }),
            _ => None,
        }
    }

    /// The operations that put back what was before this one; none where there is nothing to put back.
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
            Action::Stop { instance, ready: (address, path) } => vec![
                Action::Start {
                    instance: instance.clone(),
                    desired: Box::new(goal(instance, Goal::Running)),
                    expects: PathBuf::from("/"),
                },
                Action::AwaitReady { instance: instance.clone(), address: *address, path: path.clone() },
            ],
            _ => Vec::new(),
        };
        actions.into_iter().map(|action| Self::on(&self.machine, action)).collect()
    }

    /// Whether it only waits for what another operation began.
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

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of release {} on port {}", self.part, self.release, self.port)
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
            Action::Converge { steps, .. } if steps.is_empty() => write!(f, "record what is made here"),
            Action::Converge { steps, .. } if steps.len() == 1 => write!(f, "converge, 1 step"),
            Action::Converge { steps, .. } => write!(f, "converge, {} steps", steps.len()),
            Action::Ship { release } => write!(f, "ship release {}", release.id),
            Action::Build { release } => {
                write!(f, "build release {}", release.id)?;
                match &release.kind {
                    Kind::Own { build: Some(build), .. } => write!(f, ": {}", build.words("", 0).join(" ")),
                    _ => Ok(()),
                }
            }
            Action::Migrate { new, .. } if new.is_empty() => {
                write!(f, "set the roles' rights in the database")
            }
            Action::Migrate { new, .. } => write!(f, "migrate the database: {}", new.join(", ")),
            Action::Start { instance, .. } => write!(f, "start {instance}"),
            Action::AwaitReady { instance, address, path } => {
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
                write!(f, "wait until the balancer has {} no more", gone.join(", "))
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
                write!(f, "remove tercet's binaries, its state and last whose the machine is")
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
