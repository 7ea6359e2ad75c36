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
    /// What explains it: while there is such a cause, it does not count.
    pub follows: &'static [Cause],
}

impl Rule {
    /// The expression, without a value while a cause explains it. The time that it has to hold begins when the cause has ended, so an alert
    /// that follows from another one is not sent after that is resolved either.
    pub(crate) fn unexplained(&self) -> String {
        let clauses: String = self.follows.iter().map(|cause| cause.clause()).collect();
        if clauses.is_empty() {
            self.expression.to_owned()
        } else {
            format!("({})\n{clauses}", self.expression)
        }
    }
}

/// A cause that another alert tells of. A consequence does not fire in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The machine that the alert is about has answered none of the last scrapes.
    Machine,
    /// The alert about PostgreSQL or about its machine fires, or has fired until this time, and that of a recovery, ago: that of the expression's
    /// own ranges, which contain the outage for so long after its end.
    ///
    /// An outage that is too short for its own alert is no cause: its consequences tell of it. So they have to hold longer than that alert.
    Database(Duration),
}

/// How long it takes until all servers are in rotation after an outage of PostgreSQL: the data API's longest wait before it connects again
/// (32 s), a slow start, the health checks.
const RECOVERY: Duration = seconds(60);

impl Cause {
    /// The end of an expression that has no value while there is this cause.
    fn clause(self) -> String {
        match self {
            Self::Machine => "unless on (machine) max_over_time(up{job=\"machine\"}[10s]) == 0\n".to_owned(),
            Self::Database(range) => {
                let within = (range + RECOVERY).as_secs();
                let fired = |alert: &str| {
                    format!(
                        "max_over_time(ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}[{within}s])"
                    )
                };
                format!(
                    "unless on () (\n  {}\n  or ({} or max_over_time(up{{job=\"machine\"}}[10s]) == 0) and on (machine) up{{job=\"postgresql\"}}\n)\n",
                    fired("database-down"),
                    fired("machine-unreachable")
                )
            }
        }
    }
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
