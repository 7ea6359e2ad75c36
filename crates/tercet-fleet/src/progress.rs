//! Progress events while machines are changed, for display.

use std::fmt;

/// A progress event. Machines are changed concurrently, so the events of several alternate.
#[derive(Clone, Debug)]
pub enum Progress {
    /// A machine was reached and meets the requirements.
    Surveyed {
        /// The machine.
        machine: String,
        /// Its system.
        system: String,
    },
    /// tercet's binary is copied to the machine.
    Uploading {
        /// The machine.
        machine: String,
    },
    /// An expired lease was taken over.
    LeaseTakenOver {
        /// The machine.
        machine: String,
        /// The previous owner.
        from: String,
    },
    /// A step begins.
    Step {
        /// The machine.
        machine: String,
        /// Its description.
        step: String,
    },
    /// Migrations were applied.
    Migrated {
        /// How many were new.
        count: u64,
    },
    /// An operation of the plan begins.
    Operation {
        /// Its number.
        number: usize,
        /// How many there are.
        total: usize,
        /// Its description.
        operation: String,
    },
    /// An inverse operation begins.
    Undo {
        /// Its description.
        operation: String,
    },
    /// A message.
    Note {
        /// The text.
        note: String,
    },
    /// An operation failed; the earlier ones are undone.
    Reverting {
        /// The failure.
        why: String,
    },
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Surveyed { machine, system } => write!(f, "{machine}: reached, {system}"),
            Self::Uploading { machine } => write!(f, "{machine}: copying tercet there"),
            Self::LeaseTakenOver { machine, from } => {
                write!(f, "{machine}: the lease of {from} had expired and is taken over")
            }
            Self::Step { machine, step } => write!(f, "{machine}: {step}"),
            Self::Migrated { count: 0 } => write!(f, "database: no new migrations"),
            Self::Migrated { count: 1 } => write!(f, "database: 1 migration applied"),
            Self::Migrated { count } => write!(f, "database: {count} migrations applied"),
            Self::Operation { number, total, operation } => write!(f, "[{number}/{total}] {operation}"),
            Self::Undo { operation } => write!(f, "[undo] {operation}"),
            Self::Note { note } => f.write_str(note),
            Self::Reverting { why } => write!(f, "reverting: {why}"),
        }
    }
}

/// Receives progress events. Called from several threads.
pub type Listener<'a> = &'a (dyn Fn(Progress) + Sync);
