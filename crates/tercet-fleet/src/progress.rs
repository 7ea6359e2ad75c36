//! What happens while machines are changed, for whoever shows it.

use std::fmt;

/// Something that happened. Machines are worked on at the same time, so lines of several may alternate.
#[derive(Clone, Debug)]
pub enum Progress {
    /// A machine was looked at and can be used.
    Surveyed {
        /// The machine.
        machine: String,
        /// Its system.
        system: String,
    },
    /// tercet's own binary goes over.
    Uploading {
        /// The machine.
        machine: String,
    },
    /// A lease had run out and was taken over.
    LeaseTakenOver {
        /// The machine.
        machine: String,
        /// Who had it.
        from: String,
    },
    /// A step begins.
    Step {
        /// The machine.
        machine: String,
        /// What is done.
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
        /// What it does.
        operation: String,
    },
    /// An operation that puts back what was before begins.
    Undo {
        /// What it does.
        operation: String,
    },
    /// Something worth knowing that changes nothing.
    Note {
        /// What.
        note: String,
    },
    /// Something failed and what was is put back.
    Reverting {
        /// What failed.
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
            Self::Reverting { why } => write!(f, "putting back what was: {why}"),
        }
    }
}

/// Who is told. Called from several threads.
pub type Listener<'a> = &'a (dyn Fn(Progress) + Sync);
