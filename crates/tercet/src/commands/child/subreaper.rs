//! Runs as a child subreaper so that a supervised program's descendants are terminated with it.
//!
//! The kernel makes it the parent of all orphaned descendants, in any process group or session. SIGTERM is passed on to the
//! program and its group; SIGQUIT, which the kernel also sends when `tercet up` dies, kills all descendants at once.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, wait};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Outcome;

/// Runs the program until it and all its descendants have exited, then exits with its status.
pub(super) fn run(program: Command) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(watch(program))?;
    // The shell's convention for a program that was terminated by a signal.
    std::process::exit(status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1))
}

async fn watch(mut program: Command) -> anyhow::Result<ExitStatus> {
    // Before the program starts, so that no signal is missed.
    let mut child = signal(SignalKind::child())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut quit = signal(SignalKind::quit())?;
    // The parent death signal was SIGKILL until now, which would leave no time to kill the descendants.
    #[cfg(target_os = "linux")]
    {
        let up = rustix::process::getppid();
        rustix::process::set_parent_process_death_signal(Some(Signal::QUIT))?;
        anyhow::ensure!(rustix::process::getppid() == up, "the parent process is gone");
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    }
    // A process group, so that a signal reaches the program's children as well.
    program.process_group(0);
    let name = program.get_program().display().to_string();
    let started = program.spawn().with_context(|| format!("cannot run {name}"))?;
    let group = Pid::from_raw(started.id().cast_signed()).expect("a process id is positive");

    let mut status = None;
    let mut stopping = false;
    loop {
        let (ended, left) = reap(group);
        status = ended.or(status);
        if let Some(status) = status
            // During a graceful stop, the program's descendants may finish as well.
            && !(stopping && left)
        {
            kill_descendants(group);
            return Ok(status);
        }
        tokio::select! {
            _ = child.recv() => {}
            _ = terminate.recv() => {
                stopping = true;
                // Fails if the group has just exited.
                let _ = kill_process_group(group, Signal::TERM);
            }
            _ = quit.recv() => {
                kill_descendants(group);
                return Ok(status.unwrap_or(ExitStatus::from_raw(Signal::KILL.as_raw())));
            }
        }
    }
}

/// Reaps exited children; returns the program's status if it is among them, and whether any child is left.
fn reap(program: Pid) -> (Option<ExitStatus>, bool) {
    let mut found = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == program => found = Some(ExitStatus::from_raw(status.as_raw())),
            Ok(Some(_)) => {}
            Ok(None) => return (found, true),
            Err(_) => return (found, false),
        }
    }
}

/// Kills all descendants. The children of a killed process become this process's, so the tree is gone when no child is
/// left.
fn kill_descendants(group: Pid) {
    loop {
        let _ = kill_process_group(group, Signal::KILL);
        for pid in children() {
            let _ = kill_process(pid, Signal::KILL);
        }
        if wait(WaitOptions::empty()).is_err() {
            return;
        }
    }
}

/// The direct children of this process; see proc(5).
fn children() -> Vec<Pid> {
    let own = rustix::process::getpid();
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            // The command name may contain anything, but ends at the last parenthesis.
            let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
            (parent.parse() == Ok(own.as_raw_nonzero().get())).then_some(pid)
        })
        .collect()
}
