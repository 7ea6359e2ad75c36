//! The messages between the operator and the agent.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tercet_database::RecoveryTarget;
use tercet_machine::firewall::Firewall;
use tercet_machine::{Desired, Facts};

use super::alerts::{Alert, Delivery};
use super::task::TaskState;
use crate::backup::Task;
use crate::backup::record::Record;
use crate::backup::replace::Replaced;
use crate::identity::{Data, Identity};
use crate::inside::Inside;
use crate::lease::{Lease, LeaseRequest};
use crate::migrate::{DatabaseState, Migrate};
use crate::nftables::Flow;
use crate::program_migration::{OwnerLogin, ProgramMigration};
use crate::reachability::{DatabaseLogin, Reachability};
use crate::release::Release;
use crate::report::Report;
use crate::state::Kept;

/// A request of the operator: one line of JSON, for a shipped release followed by its archive.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Read something.
    Query(Query),
    /// Acquire, renew or release the right to change the machine.
    Lease(LeaseRequest),
    /// Change the machine.
    Change {
        /// The fencing number of the operator's lease: the machine refuses an older one.
        fence: u64,
        /// The operator's project: the machine refuses another than its own.
        project: String,
        /// The change.
        change: Change,
    },
    /// A task of PostgreSQL's user; the agent sends it to itself.
    Database(DatabaseTask),
}

/// A request that changes nothing and needs no lease.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on its way")]
pub enum Query {
    /// Read the facts that a desired state is compared with.
    Probe {
        /// The desired state.
        desired: Desired,
    },
    /// Wait until something accepts connections or, with a path, answers a GET with 2xx.
    AwaitReady {
        /// The address.
        address: SocketAddr,
        /// The path to ask for.
        path: Option<String>,
        /// The timeout in seconds.
        seconds: u64,
        /// The unit that should accept connections; the wait fails when it keeps restarting.
        unit: String,
    },
    /// Wait until the balancer finds servers healthy.
    AwaitRotation {
        /// Their names and addresses.
        servers: Vec<(String, SocketAddr)>,
        /// The names of those that must not be in rotation any more.
        gone: Vec<String>,
        /// The timeout in seconds.
        seconds: u64,
    },
    /// Read the state of the database's schema.
    Database(Migrate),
    /// Attempt a connection to each address.
    Connect {
        /// The address.
        targets: Vec<SocketAddr>,
        /// The user that attempts it; root without one.
        user: Option<String>,
    },
    /// Attempt a connection to every port of each address.
    Scan {
        /// The addresses.
        addresses: Vec<IpAddr>,
        /// The attempts per second.
        per_second: u32,
    },
    /// Read the ports that could be open.
    Inside,
    /// Name what decides about connections to the machine.
    Verdicts {
        /// The connections, and whether each should be let in.
        flows: Vec<(Flow, bool)>,
    },
    /// Name the line of `pg_hba.conf` that decides about a login.
    HbaLine {
        /// The port PostgreSQL's Unix socket is named after.
        port: u16,
        /// The database.
        database: String,
        /// The role.
        role: String,
        /// The client's address.
        client: IpAddr,
        /// Whether it uses TLS.
        tls: bool,
    },
    /// Attempt logins to PostgreSQL.
    LogIn {
        /// Address, role and credentials of each.
        logins: Vec<DatabaseLogin>,
        /// The folder of the credentials.
        credentials: PathBuf,
    },
    /// Read the state of tercet's parts.
    Report,
    /// Read the state of a task.
    Task(Task),
    /// Read the backups from the repository.
    Backups,
    /// Read the stored operator state.
    State,
    /// Read the alerts that fire.
    Alerts {
        /// Alertmanager's port.
        port: u16,
    },
    /// Send a test alert.
    TestAlerts {
        /// Alertmanager's port.
        port: u16,
        /// The number of receivers.
        receivers: usize,
    },
    /// Read from the balancer's admin socket.
    Balancer {
        /// Path and query.
        target: String,
    },
}

/// A request that changes the machine; it needs a lease.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on its way")]
pub enum Change {
    /// Bring the machine to a desired state; new firewall rules are not yet made permanent.
    Converge {
        /// The desired state.
        desired: Desired,
        /// A path that must exist.
        expects: PathBuf,
        /// The data that its database must contain.
        data: Option<Data>,
    },
    /// Record the machine's identity.
    Identify {
        /// The identity.
        identity: Identity,
        /// Whether it replaces the identity of another project.
        take_over: bool,
    },
    /// Record the location of the project's data.
    RecordData(Data),
    /// Store an encrypted operator state.
    KeepState {
        /// The state.
        state: String,
        /// The digest of the one it replaces.
        replaces: Option<String>,
    },
    /// Terminate PostgreSQL's sessions from these addresses.
    EndSessions {
        /// The port its Unix socket is named after.
        port: u16,
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// Drop a database and the project's roles.
    DropDatabase {
        /// The data it must contain.
        data: Data,
        /// The port the cluster's Unix socket is named after.
        port: u16,
    },
    /// Remove tercet's binaries, its state, and last the machine's identity.
    Erase,
    /// Make the firewall rules permanent; over a connection that was opened after they came into force.
    KeepFirewall(Firewall),
    /// Receive a release's files; the archive follows.
    Ship(Release),
    /// Receive static files; the archive follows.
    ShipWebsite {
        /// The name of their folder.
        name: String,
    },
    /// Run a release's build command.
    Build(Release),
    /// Mark a release as the one used last.
    MarkUsed(Release),
    /// Apply the migrations that are missing, after a restore point.
    Migrate {
        /// The migrations.
        migrate: Migrate,
        /// The release that they are for.
        release: String,
    },
    /// Set the login of the database's owner over the network.
    SetOwnerLogin(OwnerLogin),
    /// Run the command of a release that migrates the database.
    MigrateByProgram(Box<ProgramMigration>),
    /// Initialise the repository of the backups.
    InitialiseRepository {
        /// Whether it has backups of another cluster.
        is_another_cluster: bool,
    },
    /// Wait until the write-ahead log arrives in the repository.
    CheckArchive,
    /// Start a task.
    StartTask(Task),
    /// Restore a copy beside the database, by a task.
    RestoreCopy(RecoveryTarget),
    /// Remove the copy.
    DropCopy,
    /// Make and verify a copy that is to replace the database.
    PrepareReplacement(Replaced),
    /// Replace the database by the copy.
    ReplaceDatabase(Replaced),
    /// Record that all that follows a replacement is complete.
    CompleteReplacement,
    /// Remove the data that replacements left.
    DropReplaced,
    /// Archive the write-ahead log up to now.
    Archive,
    /// Stop PostgreSQL, after the end of its write-ahead log is archived.
    StopDatabase,
}

/// A task that runs as PostgreSQL's user.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseTask {
    /// Apply the migrations that are missing, after a restore point for the release with this id.
    Migrate(Migrate, String),
    /// Read the state of the schema.
    State(Migrate),
    /// Set the login of the database's owner over the network.
    SetOwnerLogin(OwnerLogin),
}

/// A reply of the agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To a probe.
    Facts(Facts),
    /// A step begins, or what it waits for.
    Progress(String),
    /// The end of a convergence that replaced the firewall rules: they have to be confirmed.
    Unconfirmed(Firewall),
    /// To a lease request.
    Lease(Lease),
    /// It is done, or so.
    Done,
    /// How many migrations were applied.
    Migrated(u64),
    /// How far the database is.
    Database(DatabaseState),
    /// To a connect: one for each target.
    Connected(Vec<Reachability>),
    /// To a scan: the attempts that did not time out.
    Scanned(Vec<(SocketAddr, Reachability)>),
    /// To a query for the ports that could be open.
    Inside(Inside),
    /// To a query for what decides: one for each connection.
    Verdicts(Vec<String>),
    /// To a query for a line of `pg_hba.conf`; `None` if none matches.
    HbaLine(Option<String>),
    /// To the login attempts: one for each.
    Tried(Vec<Reachability>),
    /// To a query for a task.
    Task(TaskState),
    /// To a query for the backups.
    Backups(Box<Record>),
    /// To a report.
    Report(Box<Report>),
    /// The operator state that is kept there.
    State(Kept),
    /// The alerts that fire.
    Alerts(Vec<Alert>),
    /// To a test alert: one for each receiver.
    TestedAlerts(Vec<Delivery>),
    /// The response of the balancer's admin socket.
    Balancer {
        /// The status.
        status: u16,
        /// The body.
        body: String,
    },
    /// It could not be done.
    Failed {
        /// Why, with a hint.
        message: String,
    },
}

/// The balancer's state, from its admin socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BalancerState {
    /// Its servers.
    pub servers: Vec<ServerState>,
}

/// The state of one of the balancer's servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServerState {
    /// Its name.
    pub name: String,
    /// Address and port.
    pub address: String,
    /// `up`, `down`, `ejected`, `draining`.
    pub state: String,
    /// Requests sent to it since the balancer started.
    pub requests: u64,
    /// Those that failed on it.
    #[serde(rename = "failures")]
    pub failed: u64,
}
