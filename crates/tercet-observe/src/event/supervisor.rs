//! Events of `tercet up` about the processes it supervises.

use std::fmt;

use serde::Serialize;

use super::Level;

/// An event of a supervised process.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant's Display says what it means")]
pub enum SupervisorEvent<'a> {
    Preparing {
        doing: &'a str,
    },
    PartStarted {
        name: &'a str,
        pid: u32,
    },
    PartNotReady {
        name: &'a str,
        reason: &'a str,
        seconds: u64,
    },
    PartReady {
        name: &'a str,
        address: &'a str,
        seconds: f64,
    },
    PartExited {
        name: &'a str,
        reason: &'a str,
        restart_seconds: f64,
    },
    PartStopping {
        name: &'a str,
    },
    PartStopped {
        name: &'a str,
        reason: &'a str,
    },
    PortInUse {
        name: &'a str,
        address: &'a str,
    },
    MigrationsApplied {
        count: u64,
    },
    MigrationsFailed {
        reason: &'a str,
    },
    StillRunning {
        name: &'a str,
        output: &'a str,
        seconds: u64,
    },
    MigrateFinished {
        seconds: f64,
    },
    SecretReadable {
        file: &'a str,
    },
    SeedsApplied {
        count: u64,
    },
    SeedsChanged {
        file: &'a str,
    },
    SeedsFailed {
        reason: &'a str,
    },
    /// The first seeds came when the database was not empty any more.
    SeedsIgnored,
    ConfigurationApplied {
        parts: Vec<&'a str>,
    },
    ConfigurationRefused {
        reason: &'a str,
    },
    RestartRequired {
        keys: Vec<&'a str>,
    },
    Up {
        name: &'a str,
        address: &'a str,
        parts: Vec<(&'a str, &'a str)>,
    },
}

impl SupervisorEvent<'_> {
    pub(super) fn level(&self) -> Level {
        match self {
            Self::PartExited { .. }
            | Self::PartNotReady { .. }
            | Self::PortInUse { .. }
            | Self::SeedsChanged { .. }
            | Self::SeedsIgnored
            | Self::StillRunning { .. }
            | Self::SecretReadable { .. }
            | Self::RestartRequired { .. } => Level::Warn,
            Self::MigrationsFailed { .. } | Self::SeedsFailed { .. } | Self::ConfigurationRefused { .. } => {
                Level::Error
            }
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
            Self::PartNotReady { name, reason, seconds } => {
                write!(f, "{name} is not ready after {seconds} s: {reason}")
            }
            Self::PartExited { name, reason, restart_seconds } => {
                write!(f, "{name} exited: {reason}; restart in {restart_seconds:.1} s")
            }
            Self::PartStopping { name } => write!(f, "{name} is stopping"),
            Self::PartStopped { name, reason } => write!(f, "{name} stopped: {reason}"),
            Self::MigrationsApplied { count: 1 } => f.write_str("1 migration applied"),
            Self::MigrationsApplied { count } => write!(f, "{count} migrations applied"),
            Self::PortInUse { name, address } => {
                write!(f, "{name}: {address} is in use by another process now; trying the next port")
            }
            Self::MigrationsFailed { reason } => write!(f, "migrations not applied: {reason}"),
            Self::SecretReadable { file } => {
                write!(f, "{file} has secrets, and other users can read it; hint: chmod 600 {file}")
            }
            Self::StillRunning { name, output, seconds } => {
                write!(f, "{name} is still running after {seconds} s{output}")
            }
            Self::MigrateFinished { seconds } => write!(f, "migrate finished after {seconds:.1} s"),
            Self::SeedsApplied { count: 1 } => f.write_str("1 seed applied"),
            Self::SeedsApplied { count } => write!(f, "{count} seeds applied"),
            Self::SeedsFailed { reason } => write!(f, "seeds not applied: {reason}"),
            Self::SeedsIgnored => f.write_str(
                "seeds not applied: the database was not empty when the first of them came; hint: tercet migrate reset makes it anew",
            ),
            Self::SeedsChanged { file } => write!(
                f,
                "{file} has changed since it was applied; hint: tercet migrate reset makes the database anew"
            ),
            Self::ConfigurationApplied { parts } if parts.is_empty() => {
                f.write_str("tercet.toml has changed, and no part is concerned")
            }
            Self::ConfigurationApplied { parts } => {
                write!(f, "tercet.toml is applied to {}", parts.join(", "))
            }
            Self::ConfigurationRefused { reason } => {
                write!(f, "the change of tercet.toml is not applied: {reason}")
            }
            Self::RestartRequired { keys } => write!(
                f,
                "tercet.toml: a change of {} takes effect when tercet up is restarted",
                keys.join(" and of ")
            ),
            Self::Up { name, address, parts } => {
                write!(f, "{name} is up on {address}")?;
                parts.iter().try_for_each(|(name, address)| write!(f, "; {name} {address}"))
            }
        }
    }
}
