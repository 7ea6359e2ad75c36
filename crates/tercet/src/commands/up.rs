//! `tercet up`.

use crate::cli;
use crate::failure::Outcome;

pub(crate) fn run(arguments: &cli::Up) -> Outcome {
    Err(anyhow::anyhow!("{arguments:?}: this part of tercet is still being built").into())
}
