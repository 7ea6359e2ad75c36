//! `tercet machine`: what an operator's tercet runs here over ssh.

use crate::failure::Outcome;

pub(crate) fn run() -> Outcome {
    tercet_fleet::agent::serve(std::io::stdin().lock(), std::io::stdout().lock())?;
    Ok(())
}
