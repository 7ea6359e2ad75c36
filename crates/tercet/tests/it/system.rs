//! A project under `tercet up`: the real binary, from start to stop.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::http::{Answer, Connection, Request};
use crate::tercet;

/// The most a start may take, PostgreSQL's first one included.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A project that is up. Dropped, it is asked to stop and waited for.
pub(crate) struct System {
    folder: PathBuf,
    pub(crate) process: Child,
    lines: Receiver<String>,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// The log lines read so far.
    read: Vec<String>,
    /// Whether the test has stopped it.
    pub(crate) ended: bool,
}

impl System {
    /// Starts the project in a folder and waits until it is up.
    pub(crate) fn start(folder: &Path) -> Self {
        let mut system = Self::spawn(folder);
        system.wait_until_up();
        system
    }

    /// Waits until it is up.
    pub(crate) fn wait_until_up(&mut self) {
        let up = self.wait_for(|line| line["event"] == "up");
        self.address = up["address"].as_str().unwrap().split_once("://").unwrap().1.parse().unwrap();
    }

    /// Starts the project in a folder.
    pub(crate) fn spawn(folder: &Path) -> Self {
        Self::spawn_with(folder, &[])
    }

    /// Starts the project in a folder, with these environment variables.
    pub(crate) fn spawn_with(folder: &Path, variables: &[(&str, &Path)]) -> Self {
        let mut command = tercet::command();
        // The variable would win over the generated configuration if it were passed on.
        command
            .env("PGRST_SERVER_PORT", "1")
            .envs(variables.iter().copied())
            .args(["up", "--json"])
            .arg(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut process = command.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // After the test the receiver is gone, but the pipe must still be drained.
                drop(sender.send(line));
            }
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { folder: folder.to_owned(), process, lines, address, read: Vec::new(), ended: false }
    }

    /// The first log line that matches, of those already read and those to come.
    pub(crate) fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let printed = self.log_lines().find(&wanted);
        printed.unwrap_or_else(|| self.wait_for_next(wanted))
    }

    /// The log lines read so far.
    pub(crate) fn log_lines(&self) -> impl DoubleEndedIterator<Item = Value> {
        self.read.iter().map(|line| parse(line))
    }

    /// The next log line that matches.
    pub(crate) fn wait_for_next(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no such log line:\n{}", self.read.join("\n"));
            };
            let value = parse(&line);
            self.read.push(line);
            if wanted(&value) {
                return value;
            }
        }
    }

    /// The log so far without requests, for failure messages.
    pub(crate) fn log(&mut self) -> String {
        self.read.extend(self.lines.try_iter());
        let events = self.read.iter().filter(|line| !line.contains(r#""event":"request""#));
        events.map(|line| format!("{line}\n")).collect()
    }

    /// Reads the log until the process exits.
    pub(crate) fn read_to_end(&mut self) {
        while let Ok(line) = self.lines.recv_timeout(TIMEOUT) {
            self.read.push(line);
        }
    }

    /// A connection to the balancer.
    pub(crate) fn connect(&self) -> Connection {
        Connection::to(self.address)
    }

    /// Sends a request through the balancer.
    pub(crate) fn ask(&self, request: Request<'_>) -> Answer {
        request.send(self.address)
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let pid = Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, Signal::TERM);
        let status = self.process.wait().unwrap();
        remove_data(&self.folder);
        if !std::thread::panicking() {
            assert!(status.success(), "{status}");
        }
    }
}

/// Run by root, the data is not beside the project but where PostgreSQL's account can reach it.
pub(crate) fn remove_data(folder: &Path) {
    if let Ok(data) = std::fs::read_link(folder.join(".tercet/postgresql"))
        && data.exists()
    {
        std::fs::remove_dir_all(data).unwrap();
    }
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or(Value::Null)
}
