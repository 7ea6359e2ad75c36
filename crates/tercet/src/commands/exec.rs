//! `tercet exec`: runs a command on machines, over the operator's ssh.

use anyhow::anyhow;
use tercet_fleet::ssh::shell_words;

use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::fleet::Machines;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the command is the one place that prints")]
pub(crate) fn run(arguments: &cli::Exec) -> Outcome {
    let machines = Machines::of(&arguments.machines)?;
    let remotes = machines.remotes(std::slice::from_ref(&arguments.on))?;
    let command = shell_words(&arguments.command);
    if arguments.raw {
        let [(_, remote)] = &remotes[..] else {
            return Err(Failure::input_message(format!(
                "--raw is for one machine, and {} are {}\nhint: name one of them",
                remotes.len(),
                arguments.on
            )));
        };
        return Ok(remote.connect(&command)?);
    }
    let failed: usize = std::thread::scope(|scope| {
        let running: Vec<_> = remotes
            .iter()
            .map(|(machine, remote)| {
                let command = &command;
                scope.spawn(move || {
                    let result = remote.converse(command, b"", |line| {
                        println!("{}: {line}", machine.name);
                        Ok(())
                    });
                    result.map_err(|error| eprintln!("{error:#}")).is_err()
                })
            })
            .collect();
        running.into_iter().filter_map(|thread| thread.join().ok()).filter(|failed| *failed).count()
    });
    match failed {
        0 => Ok(()),
        _ => Err(anyhow!("the command failed on {failed} of {} machines", remotes.len()).into()),
    }
}
