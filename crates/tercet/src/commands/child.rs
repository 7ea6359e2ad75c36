//! `tercet child`, hidden: runs between `tercet up` and each program, so that the program is terminated with the `up` that
//! started it, even if that is killed.
//!
//! For tercet's own parts and PostgreSQL, this process changes the user if necessary, asks the kernel for a signal when
//! its parent dies, and executes the program. A user's own program may start further processes, so a
//! [`subreaper`] stays as its parent.

mod subreaper;

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, bail};
use rustix::process::{Gid, Pid, Resource, Rlimit, Signal, Uid, getrlimit, setrlimit};

use crate::cli;
use crate::failure::Outcome;
use crate::low_ports;
use crate::supervisor::this_executable;

pub(crate) fn run(arguments: &cli::Child) -> Outcome {
    // Ctrl-C on the terminal is for the parent alone, which stops the parts in order. And Linux shares the processor among
    // sessions first (sched(7), "autogroup"): in one session, all parts together would count as much as one server
    // process of PostgreSQL. It fails below a subreaper, whose program leads a process group of that session.
    let _ = rustix::process::setsid();
    if let Some((uid, gid)) = arguments.account {
        become_user(Uid::from_raw(uid), Gid::from_raw(gid))
            .with_context(|| format!("cannot become user id {uid}"))?;
    }
    // After the change of user, which clears the signal.
    die_with(arguments.parent, if arguments.quit { Signal::QUIT } else { Signal::KILL })?;
    leave_no_core()?;
    if !arguments.low_ports {
        low_ports::drop_capability()?;
    }
    let [program, rest @ ..] = arguments.program.as_slice() else {
        return Err(anyhow::anyhow!("no program to run").into());
    };
    if arguments.subreaper {
        // If the subreaper itself is killed, the program is killed with it.
        let mut command = Command::new(this_executable()?);
        command.arg0("tercet").args(["child", "--parent", &std::process::id().to_string()]);
        if arguments.json {
            command.arg("--json");
        }
        command.arg("--");
        command.args(&arguments.program);
        return subreaper::run(command);
    }
    let error = Command::new(program).args(rest).exec();
    Err(anyhow::anyhow!("{} cannot be run: {error}", program.display()).into())
}

/// Changes this thread only, but there is no other yet, and exec keeps the ids.
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

/// Core files would contain passwords and tokens (core(5)); a program may raise the soft limit again.
fn leave_no_core() -> rustix::io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum })
}

/// Asks the kernel to send `signal` when the parent dies. Fails if it has died already.
fn die_with(parent: i32, signal: Signal) -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(signal))
        .context("cannot set the parent death signal")?;
    #[cfg(not(target_os = "linux"))]
    let _ = signal;
    if rustix::process::getppid() != Pid::from_raw(parent) {
        bail!("the parent process {parent} is gone");
    }
    Ok(())
}
