//! The agent protocol between the operator's tercet and the same binary on a machine.
//!
//! The operator runs `tercet machine` there over ssh: one [`Request`] as a line of JSON on standard input, [`Reply`]s as
//! JSON lines on standard output. The operator decides the desired state; tercet-machine and tercet-database carry it out.
//! An [`Agent`] only reads: changes go through a `Fenced`.

mod alerts;
mod change;
mod http;
mod message;
mod postgres;
mod serve;
mod task;

use anyhow::{Context as _, Result, bail};
use tercet_machine::Secret;

pub use self::alerts::{Alert, Delivery};
pub use self::message::{BalancerState, Change, Query, Reply, Request, ServerState};
pub use self::serve::serve;
pub use self::task::TaskState;
use crate::ssh::Remote;

/// The agent on a machine.
#[derive(Debug)]
pub struct Agent<'a> {
    remote: &'a Remote<'a>,
    /// The path of the binary there.
    program: String,
}

impl<'a> Agent<'a> {
    /// The binary at `program` on the machine.
    pub fn new(remote: &'a Remote<'a>, program: String) -> Self {
        Self { remote, program }
    }

    /// Sends a query and returns its reply.
    ///
    /// # Errors
    /// The machine cannot be reached, or the query fails there; the error names the machine.
    pub fn ask(&self, query: Query) -> Result<Reply> {
        let mut answer = None;
        self.send(&Request::Query(query), b"", Connection::Shared, |reply| {
            answer = Some(reply);
            Ok(())
        })?;
        answer.with_context(|| format!("{}: the agent ended without a reply", self.remote.name))
    }

    /// Sends a request and calls `each` with every reply.
    pub(crate) fn send(
        &self,
        request: &Request,
        payload: &[u8],
        connection: Connection,
        mut each: impl FnMut(Reply) -> Result<()>,
    ) -> Result<()> {
        let request = Secret::json_of(request)?;
        let mut input = format!("{}\n", request.reveal()).into_bytes();
        input.extend_from_slice(payload);
        let command = format!("{} machine", self.program);
        let mut read = |line: &str| match serde_json::from_str(line)
            .with_context(|| format!("{}: incompatible agent version", self.remote.name))?
        {
            Reply::Failed { message } => bail!("{}: {message}", self.remote.name),
            reply => each(reply),
        };
        match connection {
            Connection::Shared => self.remote.converse(&command, &input, &mut read),
            Connection::New => self.remote.converse_anew(&command, &input, &mut read),
        }
    }
}

/// The ssh connection that a request uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// The connection that requests share.
    Shared,
    /// A new connection: proof that the machine still accepts one from the operator.
    New,
}
