//! `tercet backup`: makes, lists and checks backups of the project's database, of `tercet up` and on machines.

pub(crate) mod here;
mod listing;
mod machines;

use tercet_config::{Tier, Topology};

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

/// The line about a database on machines without backups; none if it has them, or if it is not tercet's.
pub(super) fn missing(topology: &Topology) -> Option<&'static str> {
    let has_database = topology.parts().iter().any(|part| part.tier == Tier::Database);
    (has_database && topology.backup().is_none()).then_some(
        "backup: none; the database is lost with its machine\nhint: give another machine the tier \"backup\", or name an object store in [backup]\n",
    )
}
