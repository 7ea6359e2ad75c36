//! `tercet completions`.

use std::io::Write as _;

use clap::CommandFactory as _;

use crate::cli;
use crate::failure::Outcome;

pub(crate) fn run(arguments: &cli::Completions) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut cli::Arguments::command(), "tercet", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(())
}
