//! The parts of the tier `monitor`: Prometheus and Alertmanager on its machine, and the exporters that Prometheus scrapes on
//! every machine.

/// The part that scrapes, evaluates the rules and keeps the history.
pub const PROMETHEUS: &str = "prometheus";
/// The part that sends notifications.
pub const ALERTMANAGER: &str = "alertmanager";
/// The part that exports PostgreSQL's metrics.
pub const POSTGRES_EXPORTER: &str = "postgres-exporter";

/// The part that exports the metrics of a machine.
pub fn node_exporter(machine: &str) -> String {
    format!("node-exporter-{machine}")
}
