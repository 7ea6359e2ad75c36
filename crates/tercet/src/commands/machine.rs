//! `tercet machine`: what an operator's tercet runs here over ssh.

use crate::cli;
use crate::failure::Outcome;

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(crate) fn run(arguments: &cli::Machine) -> Outcome {
    if arguments.check {
        // The journal takes the level from the beginning of the line (sd-daemon(3)): a warning.
        for warning in tercet_fleet::validity::warnings() {
            println!("<4>{warning}");
        }
        return Ok(());
    }
    tercet_fleet::agent::serve(std::io::stdin().lock(), std::io::stdout().lock())?;
    Ok(())
}
