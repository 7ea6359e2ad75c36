//! `tercet balancer` as a process, observed from outside.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;
use tempfile::TempDir;

use super::load;
use crate::tercet::command;

/// How long something that comes at once may take on a busy machine.
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

/// A balancer, ended with the test.
pub(crate) struct Balancer {
    pub(super) child: Child,
    pub(crate) address: SocketAddr,
    folder: TempDir,
}

impl Balancer {
    /// In front of these servers, named `app-1`, `app-2`, …, with more lines of configuration.
    pub(crate) fn start(servers: &[SocketAddr], more: &str) -> Self {
        let address = own_address();
        Self::start_as(command(), address, &configuration(address, servers, more))
    }

    /// By a command that takes the balancer's arguments.
    pub(crate) fn start_as(command: Command, address: SocketAddr, configuration: &str) -> Self {
        let balancer = Self::spawn(command, address, configuration);
        eventually("it answers", || load::get(address).is_ok());
        balancer
    }

    /// As [`start_as`](Self::start_as), without waiting until it serves.
    pub(super) fn spawn(command: Command, address: SocketAddr, configuration: &str) -> Self {
        Self::spawn_with(|_| command, address, configuration)
    }

    /// As [`spawn`](Self::spawn), by a command made for the folder of the configuration file.
    pub(super) fn spawn_with(
        command: impl FnOnce(&Path) -> Command,
        address: SocketAddr,
        configuration: &str,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command(folder.path());
        let file = folder.path().join("balancer.toml");
        std::fs::write(&file, configuration).unwrap();
        let log = File::create(folder.path().join("events.log")).unwrap();
        let child = command.args(["balancer", "--config"]).arg(&file).stderr(log).spawn().unwrap();
        Self { child, address, folder }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("balancer.toml")
    }

    /// Ends it as systemd would, and waits until it has ended.
    pub(super) fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.child.wait().unwrap();
    }

    /// Its log so far.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("events.log")).unwrap()
    }

    /// The current worker process, if there is one.
    pub(super) fn worker(&self) -> Option<Pid> {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        Pid::from_raw(children.split_whitespace().next()?.parse().unwrap())
    }

    /// The number of open descriptors of the worker process.
    pub(super) fn descriptors(&self) -> usize {
        let worker = self.worker().unwrap().as_raw_nonzero();
        std::fs::read_dir(format!("/proc/{worker}/fd")).unwrap().count()
    }

    /// Sends the supervisor a signal.
    pub(super) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Puts another configuration in force, and returns once it is.
    pub(super) fn reload(&self, configuration: &str) {
        std::fs::write(self.file(), configuration).unwrap();
        assert_eq!(self.admin("POST /reload"), "reloaded\n");
    }

    /// A server's state on the admin socket: `up`, `silent`, `down`, `ejected` or `draining`.
    pub(crate) fn state(&self, server: &str) -> String {
        let printed: Value = serde_json::from_str(&self.admin("GET /servers")).unwrap();
        let servers = printed["servers"].as_array().unwrap();
        let named = servers.iter().find(|described| described["name"] == server).unwrap();
        named["state"].as_str().unwrap().to_owned()
    }

    /// Sends a request to the admin socket and returns the response's body.
    pub(super) fn admin(&self, request: &str) -> String {
        let socket = self.folder.path().join("admin.sock");
        let mut connected = None;
        // Requests are served a moment before it is there.
        eventually("a process listens there", || {
            connected = UnixStream::connect(&socket).ok();
            connected.is_some()
        });
        let mut stream = connected.unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        write!(stream, "{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The configuration file of a balancer there.
pub(super) fn configuration(address: SocketAddr, servers: &[SocketAddr], more: &str) -> String {
    let servers: Vec<String> = servers
        .iter()
        .enumerate()
        .map(|(index, address)| format!("{{ name = \"app-{}\", address = \"{address}\" }}", index + 1))
        .collect();
    format!(
        "listen = [\"{address}\"]\nservers = [{}]\nworkers = 2\ndrain = \"5s\"\naccess-log.to = \"access.log\"\n\
         admin.socket = \"admin.sock\"\n{more}",
        servers.join(", ")
    )
}

/// An address for this test process only: one of 127.0.0.0/8, from its process id.
pub(crate) fn own_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let process = std::process::id();
    let [_, high, middle, low] = process.to_be_bytes();
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from(([127, 1 + (high & 0x7f), middle, low], 8000 + number))
}

/// Polls until the condition holds.
pub(crate) fn eventually(what: &str, holds: impl FnMut() -> bool) {
    eventually_within(TIMEOUT, what, holds);
}

/// As [`eventually`], within another time.
pub(super) fn eventually_within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < limit, "{what}");
        std::thread::yield_now();
    }
}

/// Sends a signal that ends a process, and returns when it has ended.
pub(super) fn end(process: Pid, signal: Signal) {
    let watched = pidfd_open(process, PidfdFlags::empty()).unwrap();
    kill_process(process, signal).unwrap();
    wait_for_end(&watched);
}

/// Whether a process is there and has not ended.
pub(super) fn is_alive(process: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

/// Readable once the process has ended; see `pidfd_open(2)`.
fn wait_for_end(process: &OwnedFd) {
    let mut ended = [PollFd::new(process, PollFlags::IN)];
    assert_eq!(poll(&mut ended, Some(&Timespec::try_from(TIMEOUT).unwrap())).unwrap(), 1, "it ends");
}
