//! The right to change a machine: one operator at a time, for a time.
//!
//! A lease that is not renewed expires, so a crashed operator blocks others only until then. Each acquisition
//! raises the fencing number, and ends what an earlier holder's change may still be doing: a change with an older number
//! is refused before it begins, between its steps, and in the middle of one.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, Signal, fcntl_getlk, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};
use tercet_machine::Secret;

/// Where a machine keeps it.
const FOLDER: &str = "/var/lib/tercet";

/// Seconds a lease lasts when it is not renewed.
pub(crate) const LEASE_SECONDS: u64 = 60;

/// How often a lock is tried again.
const POLL: Duration = Duration::from_millis(20);

/// How long the processes of an earlier change may take to end, killed.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// What an operator wants of the lease.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// What to do with it.
    pub operation: LeaseOperation,
    /// The operator's user and host, for messages.
    pub owner: String,
    /// What only this run of the operator's tercet knows.
    pub token: Secret,
}

/// What to do with a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseOperation {
    /// Acquire it; an expired lease of another operator is taken over.
    Acquire,
    /// Hold it longer.
    Renew,
    /// Give it back.
    Release,
}

/// A lease as the machine keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The owner.
    pub owner: String,
    /// What only they know; empty in answers.
    token: Secret,
    /// When it runs out, in seconds since the Unix epoch.
    pub expires: u64,
    /// Raised at each taking.
    pub fence: u64,
    /// The owner of the expired lease that this one replaced.
    pub taken_over_from: Option<String>,
}

impl Lease {
    /// Whether it is held.
    fn is_held(&self) -> bool {
        !self.token.reveal().is_empty()
    }
}

/// What becomes of `lease` at `now`.
fn decide(lease: Option<Lease>, request: &LeaseRequest, now: u64) -> Result<Lease> {
    let fence = lease.as_ref().map_or(0, |lease| lease.fence);
    let mine = lease.as_ref().is_some_and(|lease| lease.token == request.token);
    let held = lease.as_ref().filter(|lease| lease.is_held());
    let renewed = |fence, taken_over_from| Lease {
        owner: request.owner.clone(),
        token: request.token.clone(),
        expires: now + LEASE_SECONDS,
        fence,
        taken_over_from,
    };
    match request.operation {
        LeaseOperation::Acquire => match held {
            Some(other) if !mine && other.expires > now => bail!(
                "{} is changing this machine; their lease expires in {} s unless they renew it\nhint: wait, or ask them",
                other.owner,
                other.expires - now
            ),
            Some(other) if !mine => Ok(renewed(fence + 1, Some(other.owner.clone()))),
            _ => Ok(renewed(fence + 1, None)),
        },
        LeaseOperation::Renew if mine => Ok(renewed(fence, None)),
        LeaseOperation::Renew => {
            bail!("the lease was lost{}", held.map(|it| format!(" to {}", it.owner)).unwrap_or_default())
        }
        LeaseOperation::Release if mine => Ok(Lease {
            owner: String::new(),
            token: Secret::new(""),
            expires: 0,
            fence,
            taken_over_from: None,
        }),
        // Another operator has it by now: there is nothing to release.
        LeaseOperation::Release => lease.context("there is no lease"),
    }
}

/// Executes the operation on this machine, under a file lock.
pub(crate) fn serve(request: &LeaseRequest) -> Result<Lease> {
    serve_in(Path::new(FOLDER), request, now())
}

fn serve_in(folder: &Path, request: &LeaseRequest, now: u64) -> Result<Lease> {
    // Renewing or releasing must not restore a lease that was taken over.
    if request.operation == LeaseOperation::Acquire {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let lock = fs::File::create(folder.join("lease.lock"))?;
    lock.lock()?;
    let lease = decide(read(folder)?, request, now)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(Secret::json_of(&lease)?.reveal().as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(folder.join("lease.json"))?;
    if request.operation == LeaseOperation::Acquire {
        end_change(folder)?;
    }
    Ok(Lease { token: Secret::new(""), ..lease })
}

/// The right to make one change: held while it is made, by one process of the machine at a time.
#[derive(Debug)]
pub(crate) struct Held {
    folder: PathBuf,
    fence: u64,
    /// Its lock is held while a change is made, and ends with the process.
    _lock: fs::File,
}

impl Held {
    /// Whether to go on.
    ///
    /// # Errors
    /// Another operator has the lease by now.
    pub(crate) fn check(&self) -> Result<()> {
        check(&self.folder, self.fence)
    }
}

/// Begins a change under the lease with this fencing number. The process and what it starts become a group of
/// their own, by which a later holder can end them. Waits for another change of the same lease.
///
/// # Errors
/// The lease belongs to another operator by now, or to none.
pub(crate) fn begin_change(fence: u64) -> Result<Held> {
    begin_change_in(Path::new(FOLDER), fence)
}

fn begin_change_in(folder: &Path, fence: u64) -> Result<Held> {
    // A session leader is a group leader already.
    let _ = rustix::process::setpgid(None, None);
    let lock = fs::File::options().create(true).append(true).open(folder.join("change.lock"))?;
    loop {
        check(folder, fence)?;
        match fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::AGAIN | Errno::ACCESS) => std::thread::sleep(POLL),
            Err(error) => return Err(error).context("change.lock"),
        }
    }
    let held = Held { folder: folder.to_owned(), fence, _lock: lock };
    // The lease may have changed hands just before the lock.
    held.check()?;
    Ok(held)
}

/// Ends the change that an earlier holder of the lease may still be making, with all it started. Every step is safe to
/// repeat and every file is renamed into place, so the next plan goes on from whatever is left.
fn end_change(folder: &Path) -> Result<()> {
    let lock = fs::File::options().create(true).append(true).open(folder.join("change.lock"))?;
    let begin = Instant::now();
    let mut ended = false;
    while let Some(process) = fcntl_getlk(&lock, &Flock::from(FlockType::WriteLock))?.and_then(|it| it.pid) {
        // It may have ended in between, or not yet lead a group.
        let _ = kill_process_group(process, Signal::KILL).or_else(|_| kill_process(process, Signal::KILL));
        if begin.elapsed() > END_PATIENCE {
            bail!("an earlier change (process {}) does not end", process.as_raw_nonzero());
        }
        ended = true;
        std::thread::sleep(POLL);
    }
    // A build is no process of the change's.
    if ended { crate::sandbox::stop_all() } else { Ok(()) }
}

/// Fails if the operator no longer has the lease.
fn check(folder: &Path, fence: u64) -> Result<()> {
    match read(folder)? {
        Some(lease) if lease.fence == fence && lease.is_held() => Ok(()),
        Some(lease) if !lease.owner.is_empty() => bail!("the lease was lost to {}", lease.owner),
        _ => bail!("no operator has the lease of this machine"),
    }
}

fn read(folder: &Path) -> Result<Option<Lease>> {
    match fs::read(folder.join("lease.json")) {
        // The file is renamed into place, so it is never partial. An unreadable lease counts as none.
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(operation: LeaseOperation, token: &str) -> LeaseRequest {
        LeaseRequest { operation, owner: format!("{token}@desk"), token: Secret::new(token) }
    }

    #[test]
    fn one_operator_at_a_time_until_the_lease_runs_out() {
        let ann = decide(None, &request(LeaseOperation::Acquire, "ann"), 100).unwrap();
        assert_eq!((ann.fence, ann.expires), (1, 160));
        let refused =
            decide(Some(ann.clone()), &request(LeaseOperation::Acquire, "bob"), 159).unwrap_err().to_string();
        assert!(
            refused.starts_with("ann@desk is changing this machine; their lease expires in 1 s"),
            "{refused}"
        );
        let renewed = decide(Some(ann.clone()), &request(LeaseOperation::Renew, "ann"), 150).unwrap();
        assert_eq!((renewed.fence, renewed.expires), (1, 210));

        let bob = decide(Some(ann), &request(LeaseOperation::Acquire, "bob"), 161).unwrap();
        assert_eq!((bob.fence, bob.taken_over_from.as_deref()), (2, Some("ann@desk")));
        assert!(decide(Some(bob.clone()), &request(LeaseOperation::Renew, "ann"), 162).is_err());
        assert_eq!(decide(Some(bob.clone()), &request(LeaseOperation::Release, "ann"), 162).unwrap(), bob);

        let free = decide(Some(bob), &request(LeaseOperation::Release, "bob"), 163).unwrap();
        let ann = decide(Some(free), &request(LeaseOperation::Acquire, "ann"), 164).unwrap();
        assert_eq!((ann.fence, ann.taken_over_from), (3, None));
    }

    /// Makes a change in a child process, which starts another: neither ever ends.
    const STUCK: &str = "import fcntl, os, subprocess, sys, time
os.setpgid(0, 0)
lock = open(sys.argv[1], 'a')
fcntl.lockf(lock, fcntl.LOCK_EX)
print(subprocess.Popen(['sleep', '86397'], stdout=subprocess.DEVNULL).pid, flush=True)
time.sleep(86397)";

    #[test]
    fn a_change_of_an_expired_lease_is_ended_in_its_middle_and_refused_afterwards() {
        use std::io::BufRead as _;
        use std::process::{Command, Stdio};

        let folder = tempfile::tempdir().unwrap();
        let acquire =
            |who: &str, at| serve_in(folder.path(), &request(LeaseOperation::Acquire, who), at).unwrap();
        let ann = acquire("ann", 100);
        let mut change = Command::new("python3")
            .args(["-c", STUCK])
            .arg(folder.path().join("change.lock"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pid = String::new();
        std::io::BufReader::new(change.stdout.take().unwrap()).read_line(&mut pid).unwrap();

        assert!(serve_in(folder.path(), &request(LeaseOperation::Acquire, "bob"), 159).is_err());
        assert!(change.try_wait().unwrap().is_none(), "a change was ended under a lease that is held");
        let bob = acquire("bob", 161);
        assert!(!change.wait().unwrap().success());
        let begin = Instant::now();
        let runs = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        while runs() {
            assert!(begin.elapsed() < END_PATIENCE, "what the change started goes on");
            std::thread::sleep(POLL);
        }
        assert_eq!((ann.fence, bob.fence), (1, 2));
        let refused = check(folder.path(), ann.fence).unwrap_err().to_string();
        assert_eq!(refused, "the lease was lost to bob@desk");
        check(folder.path(), bob.fence).unwrap();
    }
}
