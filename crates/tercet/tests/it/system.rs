//! A project under `tercet up`: the real binary, from start to stop.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::http::{Answer, Request};
use crate::tercet;

/// The most a start may take, PostgreSQL's first one included.
const PATIENCE: Duration = Duration::from_secs(120);

/// A project that is up. Dropped, it is asked to stop and waited for.
pub(crate) struct System {
    folder: PathBuf,
    process: Child,
    lines: Receiver<String>,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// What it has said.
    said: Vec<String>,
}

impl System {
    /// Starts what is in a folder and waits until it is up.
    pub(crate) fn start(folder: &Path) -> Self {
        let mut command = tercet::command();
        command.args(["up", "--json"]).arg(folder).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut process = command.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Nobody listens any more once the test is over, and the pipe must still be emptied.
                drop(sender.send(line));
            }
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut system = Self { folder: folder.to_owned(), process, lines, address, said: Vec::new() };
        let up = system.wait_for(|line| line["event"] == "up");
        system.address = up["address"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
        system
    }

    /// The first line of the log that is wanted, said already or yet to be said.
    pub(crate) fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let parse = |line: &String| serde_json::from_str(line).unwrap_or(Value::Null);
        if let Some(said) = self.said.iter().map(parse).find(&wanted) {
            return said;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("it never said so:\n{}", self.said.join("\n"));
            };
            let value = parse(&line);
            self.said.push(line);
            if wanted(&value) {
                return value;
            }
        }
    }

    /// Sends a request through the balancer.
    pub(crate) fn ask(&self, request: Request<'_>) -> Answer {
        request.send(self.address)
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, Signal::TERM);
        let status = self.process.wait().unwrap();
        // Run by root, the data is not beside the project but where PostgreSQL's account can reach it.
        if let Ok(data) = std::fs::read_link(self.folder.join(".tercet/postgresql")) {
            std::fs::remove_dir_all(data).unwrap();
        }
        if !std::thread::panicking() {
            assert!(status.success(), "{status}");
        }
    }
}
