//! Debian packages. Installed ones stay: the inventory does not record them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::command::{CommandError, output, run};
use crate::error::Error;
use crate::resource::{Action, Context, Resource};

/// A package by its Debian name, in the version that the distribution offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Package(pub String);

/// A change to the packages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Installs them in one transaction.
    Install {
        /// Their names.
        names: Vec<String>,
    },
}

impl Resource for Vec<Package> {
    /// Versions of the installed packages by name.
    type Facts = BTreeMap<String, String>;
    type Record = ();
    type Step = Step;

    fn probe(&self, (): &()) -> Result<Self::Facts, Error> {
        if self.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut arguments =
            vec!["--show", "--showformat=${Package}\\t${db:Status-Status}\\t${Version}\\n", "--"];
        arguments.extend(self.iter().map(|package| package.0.as_str()));
        // dpkg-query exits 1 when one of the packages is unknown and still lists the others.
        let output = output("dpkg-query", &arguments, "")?;
        Ok(String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| {
                let mut fields = line.split('\t');
                let (name, status, version) = (fields.next()?, fields.next()?, fields.next()?);
                (status == "installed").then(|| (name.to_owned(), version.to_owned()))
            })
            .collect())
    }

    fn diff(&self, facts: &Self::Facts, _context: &mut Context<'_>) -> Vec<Step> {
        let missing = self.iter().filter(|package| !facts.contains_key(&package.0));
        let names: Vec<String> = missing.map(|package| package.0.clone()).collect();
        if names.is_empty() { Vec::new() } else { vec![Step::Install { names }] }
    }
}

impl Action for Step {
    fn execute(&self, note: &mut dyn FnMut(&str)) -> Result<(), Error> {
        let Self::Install { names } = self;
        Ok(install(names, note)?)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Install { names } = self;
        write!(f, "install {}", names.join(", "))
    }
}

/// How long to wait for another process that holds apt's locks.
const LOCK_TIMEOUT: Duration = Duration::from_secs(300);

/// The files that apt and dpkg lock (apt-get(8), dpkg(1)).
const LOCKS: [&str; 4] = [
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
];

/// Installs in one transaction of apt, without recommended packages, keeping changed configuration files. Completes an
/// interrupted dpkg run first. Waits up to [`LOCK_TIMEOUT`] for another process that holds apt's locks.
fn install(names: &[String], note: &mut dyn FnMut(&str)) -> Result<(), CommandError> {
    let mut install =
        vec!["-q", "-y", "-o", "Dpkg::Options::=--force-confold", "--no-install-recommends", "install", "--"];
    install.extend(names.iter().map(String::as_str));
    let begin = Instant::now();
    let mut unlocked = |program: &str, arguments: &[&str]| -> Result<(), CommandError> {
        loop {
            wait_for_locks(begin, note)?;
            match run(program, arguments) {
                // Another process took the lock between the check and the start.
                Err(CommandError::Failed { message, .. })
                    if is_locked(&message) && begin.elapsed() < LOCK_TIMEOUT => {}
                outcome => return outcome.map(drop),
            }
        }
    };
    unlocked("dpkg", &["--configure", "-a"])?;
    unlocked("apt-get", &["-q", "update"])?;
    unlocked("apt-get", &install)
}

fn is_locked(message: &str) -> bool {
    message.contains("Could not get lock") || message.contains("is locked by another process")
}

fn wait_for_locks(begin: Instant, note: &mut dyn FnMut(&str)) -> Result<(), CommandError> {
    let mut told = None;
    while let Some(holder) = holder(&std::fs::read_to_string("/proc/locks").unwrap_or_default(), &inodes()) {
        let who = std::fs::read_to_string(format!("/proc/{holder}/comm")).unwrap_or_default();
        let who = format!("{} (process {holder})", who.trim());
        if begin.elapsed() > LOCK_TIMEOUT {
            return Err(CommandError::Failed {
                program: "apt-get".to_owned(),
                status: "not started".to_owned(),
                message: format!(
                    "{who} has held apt's lock for {} s\nhint: wait for it or stop it, then apply again",
                    LOCK_TIMEOUT.as_secs()
                ),
            });
        }
        let step = begin.elapsed().as_secs() / 10;
        if told != Some(step) {
            note(&format!("waiting for apt's lock, held by {who}, for at most {} s", LOCK_TIMEOUT.as_secs()));
            told = Some(step);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}

fn inodes() -> Vec<u64> {
    use std::os::unix::fs::MetadataExt as _;
    LOCKS.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|metadata| metadata.ino()).collect()
}

/// The process that holds a lock on one of `inodes`, by `/proc/locks` (proc(5)): `1: POSIX ADVISORY WRITE PID
/// MAJOR:MINOR:INODE START END`.
fn holder(locks: &str, inodes: &[u64]) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(4);
        let (process, file) = (fields.next()?, fields.next()?);
        let inode: u64 = file.rsplit(':').next()?.parse().ok()?;
        (inodes.contains(&inode) && !line.contains("->")).then(|| process.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_lock_holder_from_proc_locks() {
        let locks =
            "1: POSIX  ADVISORY  WRITE 812 00:1b:77 0 EOF\n2: POSIX  ADVISORY  WRITE 4711 fe:01:131 0 EOF\n";
        assert_eq!(holder(locks, &[131]), Some(4711));
        assert_eq!(holder(locks, &[1]), None);
        assert!(is_locked("E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt)"));
    }
}
