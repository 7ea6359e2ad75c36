//! `tercet backup`: makes, lists and checks backups of the project's database, of `tercet up` and on machines.

mod here;
mod listing;
mod machines;

use crate::cli::{self, BackupVerb};
use crate::failure::Outcome;
use crate::project::Project;

pub(crate) fn run(arguments: &cli::Backup) -> Outcome {
    let folder = match &arguments.verb {
        None => &arguments.take.machines.folder,
        Some(BackupVerb::List(list)) => &list.machines.folder,
        Some(BackupVerb::Check(check)) => &check.machines.folder,
        Some(BackupVerb::Key(key)) => &key.folder,
    };
    let project = Project::open(folder)?;
    if project.topology.only_this_machine() {
        here::run(&project, arguments)
    } else {
        machines::run(arguments)
    }
}
