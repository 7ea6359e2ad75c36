//! The conversation between the operator's tercet and the same binary on a machine.
//!
//! The operator runs `tercet machine` there over ssh: one [`Request`] as JSON on standard input, [`Reply`]s as
//! JSON lines on standard output. What the machine does is tercet-machine's and tercet-database's; what it
//! should be was decided by the operator.

mod serve;

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tercet_machine::{Desired, Facts, Step};

pub use self::serve::serve;
use crate::lease::{Lease, LeaseRequest};
use crate::migrate::Migrate;
use crate::prove::attempt::{DatabaseAttempt, Reached};
use crate::report::Report;
use crate::ssh::Remote;

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
    /// Wait until something answers a GET with 2xx.
    Await {
        /// Where.
        address: SocketAddr,
        /// The path to ask for.
        path: String,
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

/// The binary on a machine, ready to be asked.
#[derive(Debug)]
pub struct Agent<'a> {
    remote: &'a Remote<'a>,
    /// Where the binary is over there.
    program: String,
}

impl<'a> Agent<'a> {
    /// The binary at `program` on the machine.
    pub fn new(remote: &'a Remote<'a>, program: String) -> Self {
        Self { remote, program }
    }

    /// The machine's name.
    pub fn name(&self) -> &str {
        self.remote.name
    }

    /// How to get there.
    pub fn remote(&self) -> &Remote<'a> {
        self.remote
    }

    /// Asks, and hands each reply over as it comes.
    ///
    /// # Errors
    /// The machine cannot be reached, or says that it failed: named.
    pub fn converse(&self, request: &Request, mut each: impl FnMut(Reply) -> Result<()>) -> Result<()> {
        let request = serde_json::to_vec(request)?;
        self.remote.converse(&self.command(), &request, |line| match self.read(line)? {
            Reply::Failed { message } => bail!("{}: {message}", self.remote.name),
            reply => each(reply),
        })
    }

    /// Asks something that has one answer.
    ///
    /// # Errors
    /// As [`converse`](Self::converse), or there is no answer.
    pub fn ask(&self, request: &Request) -> Result<Reply> {
        let mut answer = None;
        self.converse(request, |reply| {
            answer = Some(reply);
            Ok(())
        })?;
        answer.with_context(|| format!("{}: ended without an answer", self.remote.name))
    }

    /// Like [`ask`](Self::ask), over an ssh connection of its own.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn ask_anew(&self, request: &Request) -> Result<()> {
        let request = serde_json::to_vec(request)?;
        self.remote.converse_anew(&self.command(), &request, |line| match self.read(line)? {
            Reply::Failed { message } => bail!("{}: {message}", self.remote.name),
            _ => Ok(()),
        })
    }

    fn command(&self) -> String {
        format!("{} machine", self.program)
    }

    fn read(&self, line: &str) -> Result<Reply> {
        serde_json::from_str(line)
            .with_context(|| format!("{}: an answer nobody understands", self.remote.name))
    }
}
