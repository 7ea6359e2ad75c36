//! `tercet machine`: the agent that an operator's tercet runs on a machine over ssh, and the tasks that timers start there.

use tercet_fleet::backup::Task;

use crate::cli::{self, MachineTask};
use crate::failure::Outcome;

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(crate) fn run(arguments: &cli::Machine) -> Outcome {
    let task = match &arguments.task {
        None => {
            tercet_fleet::agent::serve(std::io::stdin().lock(), std::io::stdout().lock())?;
            return Ok(());
        }
        Some(MachineTask::Certificates) => {
            // The journal takes the level, a warning, from the line's prefix (sd-daemon(3)).
            for warning in tercet_fleet::validity::warnings() {
                println!("<4>{warning}");
            }
            end(tercet_fleet::monitor::certificates::measure());
            return Ok(());
        }
        Some(MachineTask::Prove) => {
            end(tercet_fleet::monitor::connections::test(&mut |line| println!("<3>{line}")));
            return Ok(());
        }
        Some(MachineTask::BackUp { full }) => Task::BackUp { full: *full },
        Some(MachineTask::CheckBackup { backup }) => Task::Check { backup: backup.clone() },
        Some(MachineTask::Copy) => Task::Copy,
        Some(MachineTask::Heartbeat) => Task::Heartbeat,
    };
    end(task.run(&mut |line| println!("{line}"), &mut notify_ready));
    Ok(())
}

/// Ends the process if the task failed.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn end(result: anyhow::Result<()>) {
    if let Err(error) = result {
        // One line, an error: the operator's tercet shows the last one.
        println!("<3>{}", format!("{error:#}").replace('\n', "; "));
        std::process::exit(1);
    }
}

/// Tells systemd that the unit is ready (sd_notify(3)).
fn notify_ready() {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    // An error leaves the unit in its start, which has no timeout.
    let _ = std::os::unix::net::UnixDatagram::unbound().and_then(|it| it.send_to(b"READY=1", socket));
}
