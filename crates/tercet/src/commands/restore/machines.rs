//! Restores of the database on the project's machines.

use tercet_database::RecoveryTarget;

use crate::cli;
use crate::failure::{Failure, Outcome};

pub(super) fn run(_arguments: &cli::Restore, _target: Option<&RecoveryTarget>) -> Outcome {
    Err(Failure::input_message("the machines have no backups yet"))
}
