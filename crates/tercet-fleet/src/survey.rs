//! The survey: the state of all machines, which is the input of a plan beside the intent.

use tercet_machine::Facts;

use crate::migrate::DatabaseState;
use crate::remembered::{Remembered, Unreached};
use crate::report::Report;
use crate::system::System;

/// The state of a fleet.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// The machines, in the order of the file.
    pub machines: Vec<Surveyed>,
    /// The state of the database's schema, when the project has a database.
    pub database: Option<DatabaseState>,
    /// Machines that leave the project.
    pub leaving: Vec<Leaving>,
    /// Machines that leave the project and cannot be reached.
    pub unreached: Vec<Unreached>,
    /// The earlier entries of machines whose address in the file has changed.
    pub moved: Vec<Remembered>,
}

/// A machine that leaves the project.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// Its entry in the file at the last apply.
    pub remembered: Remembered,
    /// Its present state.
    pub surveyed: Surveyed,
}

/// The state of a machine.
#[derive(Clone, Debug)]
pub struct Surveyed {
    /// Its name in the file.
    pub name: String,
    /// Its system.
    pub system: System,
    /// The state of tercet's parts on it.
    pub report: Report,
    /// The facts that its desired state is compared with.
    pub facts: Facts,
}
