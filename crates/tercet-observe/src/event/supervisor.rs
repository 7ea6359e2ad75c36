//! What the supervisor of a whole system on one machine says about its parts.

use std::fmt;

use serde::Serialize;

use super::Level;

/// Something that happened to a part, as whoever started it sees it.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant's Display says what it means")]
pub enum SupervisorEvent<'a> {
    Preparing { doing: &'a str },
    PartStarted { name: &'a str, pid: u32 },
    PartReady { name: &'a str, address: &'a str, seconds: f64 },
    PartExited { name: &'a str, reason: &'a str, restart_seconds: f64 },
    PartStopping { name: &'a str },
    PartStopped { name: &'a str, reason: &'a str },
    MigrationsApplied { count: u64 },
    Up { name: &'a str, address: &'a str, parts: Vec<(&'a str, &'a str)> },
}

impl SupervisorEvent<'_> {
    pub(super) fn level(&self) -> Level {
        match self {
            Self::PartExited { .. } => Level::Warn,
            _ => Level::Info,
        }
    }
}

impl fmt::Display for SupervisorEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preparing { doing } => f.write_str(doing),
            Self::PartStarted { name, pid } => write!(f, "{name} started, process {pid}"),
            Self::PartReady { name, address, seconds } => {
                write!(f, "{name} is ready on {address} after {seconds:.1} s")
            }
            Self::PartExited { name, reason, restart_seconds } => {
                write!(f, "{name} ended: {reason}; it starts again in {restart_seconds:.1} s")
            }
            Self::PartStopping { name } => write!(f, "{name} is asked to stop"),
            Self::PartStopped { name, reason } => write!(f, "{name} stopped: {reason}"),
            Self::MigrationsApplied { count: 1 } => f.write_str("1 migration applied"),
            Self::MigrationsApplied { count } => write!(f, "{count} migrations applied"),
            Self::Up { name, address, parts } => {
                write!(f, "{name} is up on {address}")?;
                parts.iter().try_for_each(|(name, address)| write!(f, "; {name} {address}"))
            }
        }
    }
}
