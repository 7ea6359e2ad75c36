//! The server of a restored cluster: a child process whose messages say how recovery went.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;

use jiff::Timestamp;
use rustix::process::{Pid, kill_process};
use tercet_postgres::Target;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::messages::Messages;
use super::{Recovery, RecoveryError, RestoredCluster};
use crate::cluster::{STOP, file_error};
use crate::control_data::ControlData;
use crate::program::Program;
use crate::wal::{Gap, Segment};

/// The longest line of the log in bytes; a longer one is split.
const LINE_LIMIT: u64 = 16 << 10;

/// A running server. It is killed on drop; [`Server::stop`] shuts it down.
#[derive(Debug)]
pub struct Server<'a> {
    restored: &'a RestoredCluster,
    process: Child,
    /// Receives the messages; ends with the process.
    _reader: JoinHandle<()>,
    last_commit: Option<Timestamp>,
    gap: Option<Gap>,
}

/// Starts the program and waits until recovery has ended and the server accepts connections.
pub(super) async fn start<'a>(
    restored: &'a RestoredCluster,
    program: &Program,
    recovery: Option<&Recovery>,
    control: &ControlData,
) -> Result<Server<'a>, RecoveryError> {
    let path = restored.folder().join("postgresql.log");
    let log = tokio::fs::File::from_std(std::fs::File::create(&path).map_err(file_error(&path))?);
    let mut command = program.command();
    // Ctrl-C on the terminal is for this process alone.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process =
        tokio::process::Command::from(command).kill_on_drop(true).spawn().map_err(RecoveryError::Start)?;
    let stderr = process.stderr.take().expect("standard error is a pipe");
    let (sender, mut messages) = watch::channel(Messages::default());
    let mut reader = tokio::task::spawn_local(read(BufReader::new(stderr), log, sender));
    let ready = tokio::select! {
        ready = messages.wait_for(|messages| messages.ready) => ready.is_ok(),
        _ = process.wait() => false,
    };
    if !ready {
        // All of its processes have closed the pipe then.
        let _ = process.wait().await;
        let _ = (&mut reader).await;
    }
    let messages = messages.borrow().clone();
    let gap = recovery.and_then(|recovery| gap(&messages, recovery, control));
    if ready {
        return Ok(Server { restored, process, _reader: reader, last_commit: messages.last_commit, gap });
    }
    let fatal = messages.fatal.unwrap_or(messages.last);
    let Some(Recovery { target, .. }) = recovery else { return Err(RecoveryError::Fatal(fatal)) };
    let target = target.clone();
    Err(if let Some(gap) = gap {
        RecoveryError::Gap { target, gap }
    } else if fatal.starts_with("recovery ended before configured recovery target was reached") {
        RecoveryError::BeforeTarget { target, archive_end: messages.last_commit }
    } else if fatal.starts_with("requested recovery stop point is before consistent recovery point") {
        RecoveryError::BeforeBackup(target)
    } else if fatal.contains("is not a child of this server's history") {
        RecoveryError::OtherHistory { target, fatal }
    } else {
        RecoveryError::Fatal(fatal)
    })
}

/// The gap in the archive at which recovery ended, if it did.
fn gap(messages: &Messages, recovery: &Recovery, control: &ControlData) -> Option<Gap> {
    if messages.reached_target {
        return None;
    }
    let timeline = messages.restored.map_or(control.timeline, |segment| segment.timeline);
    let end = match &messages.end {
        Some(location) => Segment::of(location, timeline, control.segment_size)?,
        None => messages.restored?,
    };
    let gap = Gap::find(end, recovery.segments.iter().copied(), control.segment_size)?;
    let reason = messages.invalid.clone().filter(|_| gap.damaged);
    let at = match messages.restored.filter(|_| gap.damaged) {
        // PostgreSQL found the record invalid, or its restore command the file after the last one.
        Some(restored) if reason.is_some() => restored,
        Some(restored) => restored.next(control.segment_size),
        None => gap.at,
    };
    Some(Gap { at, reason, reached: messages.last_commit, ..gap })
}

/// Reads the log until its pipe is closed, and keeps it in a file.
async fn read(
    mut reader: BufReader<tokio::process::ChildStderr>,
    mut log: tokio::fs::File,
    messages: watch::Sender<Messages>,
) {
    use tokio::io::AsyncReadExt as _;
    let mut line = Vec::new();
    while (&mut reader).take(LINE_LIMIT).read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
        // The log is for later; without room for it, recovery goes on.
        let _ = log.write_all(&line).await;
        let text = String::from_utf8_lossy(&line);
        messages.send_modify(|messages| messages.push(text.trim_end()));
        line.clear();
    }
    let _ = log.flush().await;
}

impl<'a> Server<'a> {
    /// The connection parameters of the superuser, over the private socket.
    pub fn superuser(&self, database: &str) -> Target {
        self.restored.cluster.superuser(database)
    }

    /// The folder of the private socket, for `psql -h`.
    pub fn socket_folder(&self) -> &Path {
        self.restored.cluster.socket_folder()
    }

    /// The cluster that it serves.
    pub fn cluster(&self) -> &'a RestoredCluster {
        self.restored
    }

    /// The commit time of the last transaction that recovery replayed; `None` if there was none since the backup.
    pub fn last_commit(&self) -> Option<Timestamp> {
        self.last_commit
    }

    /// The gap in the archive at which a recovery to the latest time ended early.
    pub fn gap(&self) -> Option<&Gap> {
        self.gap.as_ref()
    }

    /// Returns when the server ends by itself, with the reason.
    pub async fn ended(&mut self) -> String {
        match self.process.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Shuts the server down: "fast", with signals that leave it less and less choice.
    pub async fn stop(mut self) {
        for (signal, patience) in STOP {
            // Until it is reaped, its process id is not reused.
            if let Some(pid) = self.process.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
                let _ = kill_process(pid, signal);
            }
            if tokio::time::timeout(patience, self.process.wait()).await.is_ok() {
                return;
            }
        }
    }
}
