//! What the two ends say to each other.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tercet_machine::{Desired, Facts, Step};

use crate::attempt::{DatabaseAttempt, Reached};
use crate::lease::{Lease, LeaseRequest};
use crate::migrate::Migrate;
use crate::report::Report;

/// What the operator asks of a machine.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Read what a desired state is to be compared with.
    Probe {
        /// The desired state.
        desired: Desired,
    },
    /// Take these steps, in order, until one fails.
    Execute {
        /// The desired state they belong to.
        desired: Desired,
        /// The steps.
        steps: Vec<Step>,
        /// The fencing number of the operator's lease: an older one is refused.
        fence: u64,
    },
    /// Take, renew or give back the right to change the machine.
    Lease(LeaseRequest),
    /// Wait until something accepts connections or, with a path, answers a GET with 2xx.
    Await {
        /// Where.
        address: SocketAddr,
        /// The path to ask for.
        path: Option<String>,
        /// How long, in seconds.
        seconds: u64,
        /// The unit that should answer: when it ends again and again, waiting is over.
        unit: String,
    },
    /// Bring the database's schema up to date.
    Migrate(Migrate),
    /// Tell which migrations are new.
    Pending(Migrate),
    /// Try to connect to each address.
    Connect {
        /// Where.
        targets: Vec<SocketAddr>,
    },
    /// Try to log in to PostgreSQL.
    TryDatabase {
        /// Where and as whom.
        attempts: Vec<DatabaseAttempt>,
    },
    /// Tell how tercet's parts are doing.
    Report,
    /// Speak to the balancer's admin socket.
    Balancer {
        /// The method.
        method: String,
        /// Path and query.
        target: String,
    },
}

/// What a machine answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To a probe.
    Facts(Facts),
    /// A step begins: its place in the list.
    Begun(usize),
    /// A step is done.
    Done(usize),
    /// To a lease request.
    Lease(Lease),
    /// To an await, and at the end of an execution.
    Ready,
    /// How many migrations were applied.
    Migrated(u64),
    /// The names of the migrations that are new.
    Pending(Vec<String>),
    /// To a connect: one for each target.
    Connected(Vec<Reached>),
    /// To a try of the database: one for each attempt.
    Tried(Vec<Reached>),
    /// To a report.
    Report(Report),
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
