//! Debian packages.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::command::{CommandError, output, run};

/// A package by its Debian name; which version is the distribution's business.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Package(pub String);

/// Installed versions by name; a package that is not installed is not there.
pub(crate) fn probe(packages: &[Package]) -> Result<BTreeMap<String, String>, CommandError> {
    if packages.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut arguments = vec!["--show", "--showformat=${Package}\\t${db:Status-Status}\\t${Version}\\n", "--"];
    arguments.extend(packages.iter().map(|package| package.0.as_str()));
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

/// How long apt's locks may be held by somebody else.
const PATIENCE: Duration = Duration::from_secs(300);

/// What apt and dpkg lock (apt-get(8), dpkg(1)).
const LOCKS: [&str; 4] = [
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
];

/// Installs in one transaction of apt, without recommended packages, keeping changed configuration files. A dpkg that
/// was interrupted is put right first. Waits for whoever holds apt's locks, telling `note`, for five minutes at most.
pub(crate) fn install(names: &[String], note: &mut dyn FnMut(&str)) -> Result<(), CommandError> {
    let mut install =
        vec!["-q", "-y", "-o", "Dpkg::Options::=--force-confold", "--no-install-recommends", "install", "--"];
    install.extend(names.iter().map(String::as_str));
    let begin = Instant::now();
    let mut unlocked = |program: &str, arguments: &[&str]| -> Result<(), CommandError> {
        loop {
            wait_for_locks(begin, note)?;
            match run(program, arguments) {
                // Somebody was faster between the look and the start.
                Err(CommandError::Failed { message, .. })
                    if is_locked(&message) && begin.elapsed() < PATIENCE => {}
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
        if begin.elapsed() > PATIENCE {
            return Err(CommandError::Failed {
                program: "apt-get".to_owned(),
                status: "not started".to_owned(),
                message: format!(
                    "{who} has held apt's lock for {} s\nhint: see what it does, or stop it, then apply again",
                    PATIENCE.as_secs()
                ),
            });
        }
        let step = begin.elapsed().as_secs() / 10;
        if told != Some(step) {
            note(&format!("waiting for apt's lock, held by {who}, for at most {} s", PATIENCE.as_secs()));
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
    fn who_holds_a_lock_is_read_from_the_kernels_list() {
        let locks =
            "1: POSIX  ADVISORY  WRITE 812 00:1b:77 0 EOF\n2: POSIX  ADVISORY  WRITE 4711 fe:01:131 0 EOF\n";
        assert_eq!(holder(locks, &[131]), Some(4711));
        assert_eq!(holder(locks, &[1]), None);
        assert!(is_locked("E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt)"));
    }
}
