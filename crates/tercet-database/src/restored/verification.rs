//! The verification of a restored cluster: its findings say whether the backup and the archive can be relied on.

mod programs;
mod sql;

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Server;
use crate::catalogue::Catalogue;

/// What the restored copy must hold.
#[derive(Clone, Copy, Debug)]
pub struct Expectation<'a> {
    /// The project's database.
    pub database: &'a str,
    /// The time that the check began and the greatest allowed age of the heartbeat then; `None` if nothing updates it.
    pub heartbeat: Option<(Timestamp, Duration)>,
    /// The catalogue of the live cluster at a time that the archive has.
    pub catalogue: Option<&'a Catalogue>,
    /// The folder with the project's own checks, `*.sql`; it may be missing.
    pub checks: &'a Path,
}

/// A part of the verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The backup is restored, and recovery reaches the end of the archive.
    Recovery,
    /// The heartbeat is recent: the measured data loss.
    Heartbeat,
    /// `pg_amcheck`: tables and their indexes.
    Relations,
    /// Databases, roles, migrations and row counts.
    Catalogue,
    /// One of the project's own checks.
    OwnCheck,
    /// `pg_dump --schema-only`.
    Schema,
    /// `pg_checksums`: every page.
    Checksums,
}

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It passed, and a person should look.
    Warning,
    /// It failed.
    Failed,
}

/// A check, its outcome, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The check.
    pub check: Check,
    /// Its outcome.
    pub outcome: Outcome,
    /// The cause of a failure or warning, or what was measured.
    pub detail: String,
}

impl Finding {
    /// A finding that passed.
    pub fn passed(check: Check, detail: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Passed, detail: detail.into() }
    }

    /// A warning.
    pub fn warning(check: Check, detail: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Warning, detail: detail.into() }
    }

    /// A failure.
    pub fn failed(check: Check, cause: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Failed, detail: cause.into() }
    }
}

/// The result of the verification of one backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// When it ended.
    pub at: Timestamp,
    /// The findings, in the order of the checks.
    pub findings: Vec<Finding>,
    /// The commit time of the last transaction in the restored copy.
    pub last_commit: Option<Timestamp>,
    /// The age of the heartbeat when the check began, in seconds: the measured data loss.
    pub heartbeat_seconds: Option<f64>,
}

impl Verification {
    /// The verification of a backup that could not be restored.
    pub fn not_restored(cause: impl Into<String>) -> Self {
        let findings = vec![Finding::failed(Check::Recovery, cause)];
        Self { at: Timestamp::now(), findings, last_commit: None, heartbeat_seconds: None }
    }

    /// Whether nothing failed.
    pub fn passed(&self) -> bool {
        self.worst() < Outcome::Failed
    }

    /// The worst outcome.
    pub fn worst(&self) -> Outcome {
        self.findings.iter().map(|finding| finding.outcome).max().unwrap_or(Outcome::Passed)
    }

    /// The causes of the failures.
    pub fn failures(&self) -> impl Iterator<Item = &str> {
        let failed = |finding: &&Finding| finding.outcome == Outcome::Failed;
        self.findings.iter().filter(failed).map(|finding| finding.detail.as_str())
    }
}

impl Server<'_> {
    /// Verifies the restored cluster with its server, which must have been recovered to the end of the archive, and shuts the
    /// server down. Every check runs, also after one has failed. Must be called on a `LocalSet`.
    pub async fn verify(self, expected: &Expectation<'_>) -> Verification {
        let last_commit = self.last_commit();
        let mut findings = vec![match (self.gap(), last_commit) {
            (Some(gap), _) => Finding::failed(Check::Recovery, gap.to_string()),
            (None, Some(time)) => Finding::passed(Check::Recovery, format!("up to the commit at {time}")),
            (None, None) => Finding::passed(Check::Recovery, "no transaction since the backup"),
        }];
        let mut heartbeat_seconds = None;
        if let Some((began, limit)) = expected.heartbeat {
            let (finding, seconds) = sql::heartbeat(&self, expected.database, began, limit).await;
            findings.push(finding);
            heartbeat_seconds = seconds;
        }
        if let Some(live) = expected.catalogue {
            findings.push(sql::catalogue(&self, expected.database, live).await);
        }
        findings.push(programs::relations(&self).await);
        findings.extend(sql::own_checks(&self, expected.database, expected.checks).await);
        findings.push(programs::schema(&self).await);
        let restored = self.cluster();
        self.stop().await;
        findings.push(programs::checksums(restored).await);
        Verification { at: Timestamp::now(), findings, last_commit, heartbeat_seconds }
    }
}
