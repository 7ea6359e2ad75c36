//! One child process: started through `tercet child`, with its output logged.

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

use super::{Launch, OnParentDeath};
use crate::output::PartLog;

/// The longest line in bytes; a longer one is split.
const LINE_LIMIT: usize = 16 << 10;
/// How long to wait for the last output of a process that has exited.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

/// A running child process. It is killed on drop.
pub(super) struct Process {
    child: tokio::process::Child,
    pid: u32,
    reader_task: JoinHandle<()>,
}

impl Process {
    /// Starts it. Must be called on a thread that lives as long as this process: when the thread ends, the kernel kills the
    /// child.
    pub(super) fn spawn(launch: &Launch, log: PartLog) -> anyhow::Result<Self> {
        let mut command = std::process::Command::new(this_executable()?);
        // The name in lists of processes.
        command.arg0("tercet").args(["child", "--json", "--parent", &std::process::id().to_string()]);
        match launch.on_parent_death {
            OnParentDeath::Kill => {}
            OnParentDeath::Quit => drop(command.arg("--quit")),
            OnParentDeath::KillDescendants => drop(command.arg("--subreaper")),
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
        // One pipe, so that lines stay in order.
        let (reader, writer) = std::io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let mut command = tokio::process::Command::from(command);
        let child = command.kill_on_drop(true).spawn().context("cannot start a process")?;
        // Close our writers, so that the reader ends with the child.
        drop(command);
        let pid = child.id().context("a process exited at its start")?;
        let reader = pipe::Receiver::from_owned_fd(reader.into())?;
        let logs_json = launch.logs_json;
        let reader_task = tokio::task::spawn_local(read_lines(reader, log, logs_json));
        Ok(Self { child, pid, reader_task })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) fn signal(&self, signal: Signal) {
        // Until the child is reaped, its process id is not reused.
        if self.child.id().is_some()
            && let Some(pid) = Pid::from_raw(self.pid.cast_signed())
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// Waits until it exits; returns its exit status as text.
    pub(super) async fn ended(&mut self) -> String {
        let status = match self.child.wait().await {
            Ok(status) => status,
            Err(error) => return error.to_string(),
        };
        // Its own children may keep the pipe open; do not wait for them.
        let _ = timeout(LAST_OUTPUT, &mut self.reader_task).await;
        match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (_, Some(signal)) => format!("killed by signal {signal}"),
            _ => status.to_string(),
        }
    }
}

/// The words before a program that is terminated with this process: SIGQUIT, which PostgreSQL's processes end with.
pub(crate) fn ends_with_this_process() -> std::io::Result<Vec<std::ffi::OsString>> {
    let parent = std::process::id().to_string();
    let words = ["child", "--parent", &parent, "--quit", "--"].map(Into::into);
    Ok(std::iter::once(this_executable()?.into_os_string()).chain(words).collect())
}

/// This process's executable, also if its file was replaced or is in a folder that this user cannot access.
pub(crate) fn this_executable() -> std::io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    Ok(if path.exists() { path } else { PathBuf::from("/proc/self/exe") })
}

/// Logs every line until the pipe is closed.
async fn read_lines(reader: impl AsyncRead + Unpin, mut log: PartLog, logs_json: bool) {
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
            log.line(&line, logs_json);
            line.clear();
        }
    }
    if !line.is_empty() {
        log.line(&line, logs_json);
    }
}
