//! The processes of a data directory, and the lock files that killed processes leave.
//!
//! PostgreSQL guards its data directory by `postmaster.pid`, see
//! <https://www.postgresql.org/docs/current/storage-file-layout.html>. After a power cut the process id in
//! it may belong to another process, and PostgreSQL then refuses to start; this module
//! inspects the processes instead.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use super::{ClusterError, file_error};

/// The content of `postmaster.pid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) pid: u32,
    pub(super) accepts_connections: bool,
    /// The port, which is a part of the socket's name; 0 while it is unknown.
    pub(super) port: u16,
    /// The folder of the socket.
    pub(super) sockets: PathBuf,
}

impl Status {
    pub(super) fn read(data: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(data.join("postmaster.pid")).ok()?)
    }

    /// Line 1 is the process id, line 4 the port, line 5 the folder of the socket, line 8 the status. PostgreSQL may still be writing the file: without line 1 the result
    /// is `None`, without line 8 the server is not ready.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok()?;
        let port = lines.nth(2).and_then(|port| port.trim().parse().ok()).unwrap_or(0);
        let sockets = PathBuf::from(lines.next().unwrap_or_default());
        let accepts_connections = lines.nth(2).is_some_and(|state| state.trim() == "ready");
        Some(Self { pid, accepts_connections, port, sockets })
    }
}

/// The processes whose working directory is `data`: the postmaster and all its children. Empty without `/proc`.
pub(super) fn processes(data: &Path) -> Vec<i32> {
    let Ok(data) = data.canonicalize() else { return Vec::new() };
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            (fs::read_link(entry.path().join("cwd")).ok()? == data && is_postgres(&entry.path()))
                .then_some(pid)
        })
        .collect()
}

/// Whether it is a PostgreSQL process. A shell may have the data directory as its working directory too.
fn is_postgres(process: &Path) -> bool {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    matches!(name.trim(), "postgres" | "postmaster")
}

/// Sends a signal to every process of `data`.
pub(super) fn signal(data: &Path, signal: Signal) {
    for pid in processes(data).into_iter().filter_map(Pid::from_raw) {
        // It may have exited already.
        let _ = kill_process(pid, signal);
    }
}

/// Removes the lock files that a killed server left. The caller must have checked that no process of `data` runs.
/// Without `/proc` it cannot; then nothing is removed, and PostgreSQL's check of the lock files decides.
pub(super) fn forget(data: &Path, sockets: &Path) -> Result<(), ClusterError> {
    if !Path::new("/proc/self/cwd").exists() {
        return Ok(());
    }
    let leftovers = fs::read_dir(sockets).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in leftovers.chain([data.join("postmaster.pid")]) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file_error(&path)(error)),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(u32, bool)>) {
        let status = Status::parse(text).map(|status| (status.pid, status.accepts_connections));
        assert_eq!(status, expected, "{text:?}");
    }

    #[test]
    fn a_server_is_ready_when_its_file_says_so() {
        check("", None);
        check("41\n/data\n", Some((41, false)));
        check("41\n/data\n1700000000\n5432\n/sock\n127.0.0.1\n 123 4\nstarting\n", Some((41, false)));
        check("41\n/data\n1700000000\n5432\n/sock\n127.0.0.1\n 123 4\nready   \n", Some((41, true)));
    }
}
