//! The conversation between the operator's tercet and the same binary on a machine.
//!
//! The operator runs `tercet machine` there over ssh: one [`Request`] as a line of JSON on standard input, [`Reply`]s as
//! JSON lines on standard output. What the machine does is tercet-machine's and tercet-database's; what it
//! should be was decided by the operator. An [`Agent`] only reads: changes go through a `Fenced`.

mod change;
mod message;
mod serve;

use anyhow::{Context as _, Result, bail};
use tercet_machine::Secret;

pub use self::message::{Change, Query, Reply, Request};
pub use self::serve::serve;
use crate::ssh::Remote;

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

    /// Asks something that has one answer.
    ///
    /// # Errors
    /// The machine cannot be reached, or says that it failed: named.
    pub fn ask(&self, query: Query) -> Result<Reply> {
        let mut answer = None;
        self.send(&Request::Query(query), b"", Connection::Shared, |reply| {
            answer = Some(reply);
            Ok(())
        })?;
        answer.with_context(|| format!("{}: ended without an answer", self.remote.name))
    }

    /// Sends a request and hands each reply over as it comes.
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

/// Which ssh connection a request goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// The one that requests share.
    Shared,
    /// A new one: proof that the machine still lets the operator in.
    New,
}
