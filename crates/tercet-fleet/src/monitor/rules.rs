//! The rules of the alerts, each declared once: the expression, how long it has to hold, what it means and what to do. The file that
//! Prometheus evaluates and the guide's page are made from them.

mod database;
mod machine;
mod requests;
mod trust;

use std::fmt;
use std::time::Duration;

use tercet_config::{POSTGRES_EXPORTER, Topology};

/// A rule of an alert.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The alert's name.
    pub name: &'static str,
    /// The expression (PromQL), which has a value while the alert's condition is met.
    pub expression: &'static str,
    /// How long it has to have a value before the alert fires.
    pub hold: Duration,
    /// How urgent it is.
    pub severity: Severity,
    /// One line about the alert, with its labels in Prometheus' templates.
    pub summary: &'static str,
    /// What it means, in the guide.
    pub meaning: &'static str,
    /// What to do.
    pub action: &'static str,
    /// What a topology must have for the rule to apply.
    pub needs: Needs,
}

/// How urgent an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Requests fail, or data may be lost: now.
    Critical,
    /// It becomes one or the other: today.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        })
    }
}

/// What a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// What every project has.
    Nothing,
    /// PostgreSQL on a machine of the project.
    Database,
    /// Backups.
    Backups,
    /// Backups that are checked by a timer.
    Checks,
    /// Domains that certificates are obtained for.
    Domains,
    /// The data API.
    Api,
}

/// All rules.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    [machine::RULES, requests::RULES, database::RULES, trust::RULES].into_iter().flatten()
}

/// The rules that apply to a topology.
pub fn of(topology: &Topology) -> impl Iterator<Item = &'static Rule> {
    let (database, backup) = (topology.part(POSTGRES_EXPORTER).is_some(), topology.backup());
    let api = topology.data_api().is_some();
    all().filter(move |rule| match rule.needs {
        Needs::Nothing => true,
        Needs::Database => database,
        Needs::Backups => backup.is_some(),
        Needs::Checks => backup.is_some_and(|backup| backup.check.is_some()),
        Needs::Domains => !topology.balancer().domains.is_empty(),
        Needs::Api => api,
    })
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

#[cfg(test)]
mod tests;
