//! Backups of the private PostgreSQL of `tercet up`, in the project's `.tercet/backups`.

use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::project::Project;

pub(super) fn run(project: &Project, _arguments: &cli::Backup) -> Outcome {
    Err(Failure::input_message(format!("{} has no backups yet", project.folder.display())))
}
