//! One child process: started through `tercet child`, its lines heard, signalled, waited for.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Launch, Orphan};
use crate::output::Voice;

/// Bytes of a line that are kept together; a longer one is cut.
const LINE_LIMIT: usize = 16 << 10;
/// How long what a process said last may take to arrive.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A running child process. Dropped, it is killed.
pub(super) struct Process {
    child: tokio::process::Child,
    pid: u32,
    listener: JoinHandle<()>,
}

impl Process {
    /// Starts it. Must be called on the thread that lives as long as this whole process: when that ends, the
    /// kernel ends the child.
    pub(super) fn spawn(launch: &Launch, voice: Voice) -> anyhow::Result<Self> {
        let mut command = std::process::Command::new(this_executable()?);
        // So that it is found in a list of processes by what it is for.
        command.arg0("tercet").args(["child", "--parent", &std::process::id().to_string()]);
        match launch.orphan {
            Orphan::Killed => {}
            Orphan::Quits => drop(command.arg("--quit")),
            Orphan::KilledWithDescendants => drop(command.arg("--guard")),
        }
        if let Some((uid, gid)) = launch.account {
            command.args(["--account", &format!("{uid}:{gid}")]);
        }
        if launch.low_ports {
            command.arg("--low-ports");
        }
        command.arg("--").args(&launch.program).current_dir(&launch.folder);
        if !launch.inherits {
            command.env_clear();
        }
        command.envs(launch.environment.iter().cloned());
        // One pipe, so that lines stay in the order they were written in.
        let (reader, writer) = std::io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        // Ctrl-C on the terminal is for this process alone: the children are stopped in order.
        command.process_group(0);
        let mut command = tokio::process::Command::from(command);
        let child = command.kill_on_drop(true).spawn().context("cannot start a process")?;
        // The last writers here, so that the reader comes to an end.
        drop(command);
        let pid = child.id().context("a process ended before it began")?;
        let reader = pipe::Receiver::from_owned_fd(reader.into())?;
        let speaks_json = launch.speaks_json;
        let listener = tokio::task::spawn_local(listen(reader, voice, speaks_json));
        Ok(Self { child, pid, listener })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn signal(&self, signal: Signal) {
        // Until it is waited for, its process id is nobody else's.
        if self.child.id().is_some()
            && let Some(pid) = Pid::from_raw(self.pid.cast_signed())
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits for its end; how it ended.
    pub(super) async fn ended(&mut self) -> String {
        let status = match self.child.wait().await {
            Ok(status) => status,
            Err(error) => return error.to_string(),
        };
        // What it started may hold the pipe open; then it is not waited for.
        let _ = timeout(LAST_WORDS, &mut self.listener).await;
        match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (_, Some(signal)) => format!("killed by signal {signal}"),
            _ => status.to_string(),
        }
    }
}

/// The program this process runs, even when its file was replaced meanwhile or is in a folder that this user cannot
/// enter.
pub(crate) fn this_executable() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    Ok(if path.exists() { path } else { PathBuf::from("/proc/self/exe") })
}

/// Passes every line on, until nobody can write any more.
async fn listen(reader: impl AsyncRead + Unpin, mut voice: Voice, speaks_json: bool) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while let Ok(available) = reader.fill_buf().await
        && !available.is_empty()
    {
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(available.len()).min(LINE_LIMIT - line.len());
        line.extend_from_slice(&available[..taken]);
        let complete = end == Some(taken);
        reader.consume(taken + usize::from(complete));
        if complete || line.len() == LINE_LIMIT {
            voice.line(&line, speaks_json);
            line.clear();
        }
    }
    if !line.is_empty() {
        voice.line(&line, speaks_json);
    }
}
