//! Backups on the project's machines.

use crate::cli;
use crate::failure::{Failure, Outcome};

pub(super) fn run(_arguments: &cli::Backup) -> Outcome {
    Err(Failure::input_message("the machines have no backups yet"))
}
