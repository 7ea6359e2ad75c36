//! Tasks that only the operating system's user `postgres` may do: PostgreSQL knows it by the Unix socket (peer
//! authentication).

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use tercet_machine::Secret;

use super::message::{DatabaseTask, Reply, Request};

/// Runs `task` in a child process of the user `postgres` and returns its reply.
pub(super) fn ask(task: DatabaseTask) -> Result<Reply> {
    let request = Secret::json_of(&Request::Database(task))?;
    let mut child = Command::new("runuser")
        .args(["-u", "postgres", "--"])
        .arg(std::env::current_exe()?)
        .arg("machine")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("runuser")?;
    let mut stdin = child.stdin.take().expect("standard input is piped");
    stdin.write_all(request.reveal().as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    match serde_json::from_slice(&output.stdout).context("the migration ended without an answer")? {
        Reply::Failed { message } => bail!("{message}"),
        reply => Ok(reply),
    }
}
