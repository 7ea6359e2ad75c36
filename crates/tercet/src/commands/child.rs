//! `tercet child`, hidden: what stands between `tercet up` and each program it runs, so that a program never
//! outlives the `up` that started it, however that one ends.
//!
//! A program that starts no processes of its own is told by the kernel: this process gives up root where
//! asked, has itself killed with its parent, and becomes the program. Somebody else's program may start
//! anything, so a [guardian] stays with it.

mod guardian;

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, bail};
use rustix::process::{Gid, Pid, Resource, Rlimit, Signal, Uid, getrlimit, setrlimit};

use crate::cli;
use crate::failure::Outcome;
use crate::low_ports;
use crate::supervisor::this_executable;

pub(crate) fn run(arguments: &cli::Child) -> Outcome {
    if let Some((uid, gid)) = arguments.account {
        become_user(Uid::from_raw(uid), Gid::from_raw(gid))
            .with_context(|| format!("cannot become user id {uid}"))?;
    }
    // After the change of user, which clears it.
    die_with(arguments.parent, if arguments.quit { Signal::QUIT } else { Signal::KILL })?;
    leave_no_core()?;
    if !arguments.low_ports {
        low_ports::give_up()?;
    }
    let [program, rest @ ..] = arguments.program.as_slice() else {
        return Err(anyhow::anyhow!("no program to run").into());
    };
    if arguments.guard {
        // Should the guardian itself be killed, at least the program goes with it.
        let mut command = Command::new(this_executable()?);
        command.arg0("tercet").args(["child", "--parent", &std::process::id().to_string(), "--"]);
        command.args(&arguments.program);
        return guardian::run(command);
    }
    let error = Command::new(program).args(rest).exec();
    Err(anyhow::anyhow!("{} cannot be run: {error}", program.display()).into())
}

/// Only this thread changes, but no other exists yet, and the program takes over what it is.
#[cfg(target_os = "linux")]
fn become_user(uid: Uid, gid: Gid) -> rustix::io::Result<()> {
    rustix::thread::set_thread_groups(&[gid])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

#[cfg(not(target_os = "linux"))]
fn become_user(_: Uid, _: Gid) -> rustix::io::Result<()> {
    Err(rustix::io::Errno::NOSYS)
}

/// A core file would hold passwords and tokens (core(5)); a program that wants one may raise the limit again.
fn leave_no_core() -> rustix::io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum })
}

/// Has the kernel send `signal` when the parent dies. It may have died before that was arranged.
fn die_with(parent: i32, signal: Signal) -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(signal))
        .context("cannot ask to be told of the parent's death")?;
    #[cfg(not(target_os = "linux"))]
    let _ = signal;
    if rustix::process::getppid() != Pid::from_raw(parent) {
        bail!("the parent process {parent} is gone");
    }
    Ok(())
}
