//! `tercet machine`: the agent that an operator's tercet runs on a machine over ssh.

use crate::cli;
use crate::failure::Outcome;

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(crate) fn run(arguments: &cli::Machine) -> Outcome {
    if arguments.check {
        // The journal takes the level, a warning, from the line's prefix (sd-daemon(3)).
        for warning in tercet_fleet::validity::warnings() {
            println!("<4>{warning}");
        }
        return Ok(());
    }
    tercet_fleet::agent::serve(std::io::stdin().lock(), std::io::stdout().lock())?;
    Ok(())
}
