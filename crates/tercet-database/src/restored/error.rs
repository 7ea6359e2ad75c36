//! The reasons why a restored cluster is not recovered.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::cluster::ClusterError;
use crate::recovery::RecoveryTarget;
use crate::wal::Gap;

/// A restored cluster could not be recovered or started.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The folder has no data directory of PostgreSQL.
    #[error("{} is no data directory of PostgreSQL", .0.display())]
    NoCluster(PathBuf),
    /// The data directory is of another major version than the programs.
    #[error("{} is of PostgreSQL {major}, and the programs are of PostgreSQL {installed}", data.display())]
    Major {
        /// The data directory.
        data: PathBuf,
        /// Its major version.
        major: u32,
        /// That of the programs.
        installed: u32,
    },
    /// The folder cannot be read, written or used.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The server's program could not be run.
    #[error("the server could not be started: {0}")]
    Start(std::io::Error),
    /// The archive ends before the target.
    #[error("the archive does not reach {target}: {}", Reached(*archive_end))]
    BeforeTarget {
        /// The target.
        target: RecoveryTarget,
        /// The commit time of the last transaction in the archive; `None` if it has none since the backup.
        archive_end: Option<Timestamp>,
    },
    /// The target is earlier than the end of the backup, from which on it is consistent.
    #[error("{0} is before the end of the backup; hint: restore an earlier backup")]
    BeforeBackup(RecoveryTarget),
    /// The timeline to follow does not come from the end of the backup: an earlier restore went back to before it (PostgreSQL
    /// manual, section 26.3.5, "Timelines").
    #[error("the backup is not of the history that leads to {target}: {fatal}")]
    OtherHistory {
        /// The target.
        target: RecoveryTarget,
        /// PostgreSQL's error.
        fatal: String,
    },
    /// Recovery ended at a gap in the archive before it reached the target.
    #[error("{target} cannot be reached: {gap}")]
    Gap {
        /// The target.
        target: RecoveryTarget,
        /// The gap.
        gap: Gap,
    },
    /// PostgreSQL ended with an error.
    #[error("PostgreSQL: {0}")]
    Fatal(String),
}

struct Reached(Option<Timestamp>);

impl std::fmt::Display for Reached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(time) => write!(f, "the archive ends at {time}, its last commit"),
            None => f.write_str("it has no transaction since the backup"),
        }
    }
}
