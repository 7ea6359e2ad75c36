//! The processes of a running system: find, kill, wait.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;

use crate::system::System;

/// How long processes may take to end.
const TIMEOUT: Duration = Duration::from_secs(60);

impl System {
    /// The process of a part as it was last started.
    pub(crate) fn pid(&self, part: &str) -> Pid {
        let started =
            self.log_lines().rfind(|event| event["event"] == "part_started" && event["name"] == part);
        Pid::from_raw(i32::try_from(started.unwrap()["pid"].as_i64().unwrap()).unwrap()).unwrap()
    }

    pub(crate) fn own_pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    pub(crate) fn kill(&self, part: &str) {
        kill_process(self.pid(part), Signal::KILL).unwrap();
    }

    /// Waits until a part is ready again.
    pub(crate) fn wait_until_ready(&mut self, part: &str) {
        self.wait_for_next(|event| event["event"] == "part_ready" && event["name"] == part);
    }

    /// Sends `tercet up` a signal and waits for its end: returns its exit code and log. Its data stays.
    pub(crate) fn stop(mut self, signal: Signal) -> (Option<i32>, Vec<Value>) {
        kill_process(self.own_pid(), signal).unwrap();
        self.ended = true;
        let status = self.process.wait().unwrap();
        self.read_to_end();
        (status.code(), self.log_lines().collect())
    }

    /// Kills `tercet up` itself and waits until every process below it is gone. Its data stays.
    pub(crate) fn kill_and_wait(mut self) {
        let everything = descendants(self.own_pid());
        assert!(everything.len() > 1, "{everything:?}");
        let watched: Vec<OwnedFd> =
            everything.keys().filter_map(|pid| pidfd_open(*pid, PidfdFlags::empty()).ok()).collect();
        kill_process(self.own_pid(), Signal::KILL).unwrap();
        self.ended = true;
        self.process.wait().unwrap();
        for process in watched {
            // Readable once the process has ended; see pidfd_open(2).
            let mut ended = [PollFd::new(&process, PollFlags::IN)];
            let ready = poll(&mut ended, Some(&Timespec::try_from(TIMEOUT).unwrap())).unwrap();
            assert_eq!(ready, 1, "still there: {:?} of {everything:?}", remaining(&everything));
        }
    }
}

/// The processes below one, by /proc: each with its command.
pub(crate) fn descendants(ancestor: Pid) -> HashMap<Pid, String> {
    let mut found = HashMap::new();
    let mut new = vec![ancestor];
    while let Some(parent) = new.pop() {
        for (pid, command) in children(parent) {
            found.insert(pid, command);
            new.push(pid);
        }
    }
    found
}

fn children(parent: Pid) -> Vec<(Pid, String)> {
    processes()
        .filter(|(_, of, _)| *of == parent.as_raw_nonzero().get())
        .map(|(pid, _, name)| (pid, name))
        .collect()
}

fn remaining(watched: &HashMap<Pid, String>) -> Vec<(Pid, String)> {
    processes().filter(|(pid, ..)| watched.contains_key(pid)).map(|(pid, _, name)| (pid, name)).collect()
}

/// Every process with its parent and its command line; see proc(5).
fn processes() -> impl Iterator<Item = (Pid, i32, String)> {
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The command name may contain anything, but ends at the last parenthesis.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        let command = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
        Some((pid, parent, command.replace('\0', " ").trim().to_owned()))
    })
}
