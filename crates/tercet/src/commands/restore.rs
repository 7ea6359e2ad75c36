//! `tercet restore`: the database as it was at a time, beside the present one or in its place.

mod here;
mod machines;

use jiff::Timestamp;
use tercet_database::RecoveryTarget;

use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::project::Project;

pub(crate) fn run(arguments: &cli::Restore) -> Outcome {
    let target = arguments.to.as_deref().map(|text| RecoveryTarget::parse(text, Timestamp::now()));
    let target = target.transpose().map_err(|error| Failure::input_message(error.to_string()))?;
    let project = Project::open(&arguments.machines.folder)?;
    if project.topology.only_this_machine() {
        here::run(&project, arguments, target.as_ref())
    } else {
        machines::run(arguments, target.as_ref())
    }
}
