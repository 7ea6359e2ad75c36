//! What the two ends say to each other.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tercet_machine::firewall::Firewall;
use tercet_machine::{Desired, Facts};

use crate::attempt::{DatabaseAttempt, Reached};
use crate::identity::{Data, Identity};
use crate::lease::{Lease, LeaseRequest};
use crate::migrate::{DatabaseState, Migrate};
use crate::release::Release;
use crate::report::Report;
use crate::state::Kept;

/// What the operator sends to a machine: one line of JSON; a shipped archive follows it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Read something.
    Query(Query),
    /// Acquire, renew or release the right to change the machine.
    Lease(LeaseRequest),
    /// Change something.
    Change {
        /// The fencing number of the operator's lease: an older one is refused.
        fence: u64,
        /// The operator's project: the machine refuses another than its own.
        project: String,
        /// What.
        change: Change,
    },
    /// What only PostgreSQL's own user may do; sent by the agent to itself.
    Database(DatabaseTask),
}

/// What changes nothing, so that anybody may ask at any time.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on its way")]
pub enum Query {
    /// Read what a desired state is to be compared with.
    Probe {
        /// The desired state.
        desired: Desired,
    },
    /// Wait until something accepts connections or, with a path, answers a GET with 2xx.
    AwaitReady {
        /// Where.
        address: SocketAddr,
        /// The path to ask for.
        path: Option<String>,
        /// How long, in seconds.
        seconds: u64,
        /// The unit that should answer: when it ends again and again, waiting is over.
        unit: String,
    },
    /// Wait until the balancer finds servers healthy.
    AwaitRotation {
        /// Their names and where they are.
        servers: Vec<(String, SocketAddr)>,
        /// The names of those that must not be in rotation any more.
        gone: Vec<String>,
        /// How long, in seconds.
        seconds: u64,
    },
    /// Tell how far the database is.
    Database(Migrate),
    /// Try to connect to each address.
    Connect {
        /// Where.
        targets: Vec<SocketAddr>,
    },
    /// Try to log in to PostgreSQL.
    TryDatabase {
        /// Where and as whom.
        attempts: Vec<DatabaseAttempt>,
        /// The folder of the credentials to try with.
        credentials: PathBuf,
    },
    /// Tell how tercet's parts are doing.
    Report,
    /// Hand out the operator state that is kept here.
    State,
    /// Read from the balancer's admin socket.
    Balancer {
        /// Path and query.
        target: String,
    },
}

/// What changes the machine: only with a lease.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on its way")]
pub enum Change {
    /// Bring the machine to a desired state; new firewall rules are not yet made permanent.
    Converge {
        /// The desired state.
        desired: Desired,
        /// What must be there.
        expects: PathBuf,
        /// The data that its database must be.
        data: Option<Data>,
    },
    /// Write down whose the machine is.
    Identify {
        /// Whose it is.
        identity: Identity,
        /// Whether that of another is taken over.
        take_over: bool,
    },
    /// Write down where the project's data is.
    RecordData(Data),
    /// Keep an encrypted operator state.
    KeepState {
        /// The state.
        state: String,
        /// The digest of the one that is there.
        replaces: Option<String>,
    },
    /// End PostgreSQL's sessions that come from these addresses.
    EndSessions {
        /// The port its Unix socket is named after.
        port: u16,
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// Drop a database and the project's roles.
    DropDatabase {
        /// The data it must be.
        data: Data,
        /// The port the cluster's Unix socket is named after.
        port: u16,
    },
    /// Forget the project: tercet's binaries, its state, and last whose the machine is.
    Erase,
    /// Make the firewall rules permanent; over a connection that was opened after they came into force.
    KeepFirewall(Firewall),
    /// Take a release's files; its archive follows.
    Ship(Release),
    /// Run a release's build command.
    Build(Release),
    /// Make a release the one used last.
    MarkUsed(Release),
    /// Bring the database's schema up to date.
    Migrate(Migrate),
}

/// What is done as PostgreSQL's own user.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatabaseTask {
    /// Bring the schema up to date.
    Migrate(Migrate),
    /// Tell how far it is.
    State(Migrate),
}

/// What a machine answers.
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
    Connected(Vec<Reached>),
    /// To a try of the database: one for each attempt.
    Tried(Vec<Reached>),
    /// To a report.
    Report(Box<Report>),
    /// The operator state that is kept there.
    State(Kept),
    /// What the balancer's admin socket said.
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
