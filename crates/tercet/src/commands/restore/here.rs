//! Restores of the private PostgreSQL of `tercet up`.

use tercet_database::RecoveryTarget;

use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::project::Project;

pub(super) fn run(project: &Project, _arguments: &cli::Restore, _target: Option<&RecoveryTarget>) -> Outcome {
    Err(Failure::input_message(format!("{} has no backups yet", project.folder.display())))
}
