//! The conversation between the operator's tercet and the same binary on a machine.
//!
//! The operator runs `tercet machine` there over ssh: one [`Request`] as JSON on standard input, [`Reply`]s as
//! JSON lines on standard output. What the machine does is tercet-machine's and tercet-database's; what it
//! should be was decided by the operator.

mod message;
mod serve;

use anyhow::{Context as _, Result, bail};
use tercet_machine::Secret;

pub use self::message::{Reply, Request};
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
        let request = Secret::json_of(request)?;
        self.remote.converse(&self.command(), request.reveal().as_bytes(), |line| match self.read(line)? {
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
        let request = Secret::json_of(request)?;
        self.remote.converse_anew(&self.command(), request.reveal().as_bytes(), |line| {
            match self.read(line)? {
                Reply::Failed { message } => bail!("{}: {message}", self.remote.name),
                _ => Ok(()),
            }
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
