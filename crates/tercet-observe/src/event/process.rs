//! Events of every process.

use std::fmt;

use serde::Serialize;

use super::Level;

/// An event of a process.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(missing_docs, reason = "each variant's Display says what it means")]
pub enum ProcessEvent<'a> {
    Started { version: &'a str, pid: u32 },
    Listening { address: &'a str, purpose: &'a str },
    ConfigurationLoaded { source: &'a str },
    ConfigurationRefused { source: &'a str, reason: &'a str },
    ConfigurationWarning { warning: &'a str },
    TracesRefused { reason: &'a str },
    TracesAccepted,
    Stopping { reason: &'a str },
    Stopped,
    Failed { reason: &'a str },
}

impl ProcessEvent<'_> {
    pub(super) fn level(&self) -> Level {
        match self {
            Self::Failed { .. } | Self::ConfigurationRefused { .. } => Level::Error,
            Self::ConfigurationWarning { .. } | Self::TracesRefused { .. } => Level::Warn,
            _ => Level::Info,
        }
    }
}

impl fmt::Display for ProcessEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { version, pid } => write!(f, "started, version {version}, process {pid}"),
            Self::Listening { address, purpose } => write!(f, "{purpose} endpoint listening on {address}"),
            Self::ConfigurationLoaded { source } => write!(f, "configuration loaded from {source}"),
            Self::ConfigurationRefused { source, reason } => {
                write!(f, "configuration {source} refused, the running one stays in use: {reason}")
            }
            Self::ConfigurationWarning { warning } => write!(f, "configuration: {warning}"),
            Self::TracesRefused { reason } => {
                write!(f, "traces are not accepted by the collector and dropped: {reason}")
            }
            Self::TracesAccepted => write!(f, "traces are accepted by the collector again"),
            Self::Stopping { reason } => write!(f, "stopping: {reason}"),
            Self::Stopped => write!(f, "stopped"),
            Self::Failed { reason } => write!(f, "failed: {reason}"),
        }
    }
}
