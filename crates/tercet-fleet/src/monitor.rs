//! The monitoring of a fleet: the rules of its alerts, and the configuration of Prometheus. Pure, but for the tasks that
//! measure something on a machine.

pub(crate) mod alertmanager;
pub mod certificates;
pub mod connections;
pub mod export;
pub(crate) mod prometheus;
pub mod receivers;
pub mod rules;
pub(crate) mod textfile;
mod yaml;

/// The role by which the exporter logs in to PostgreSQL, a member of `pg_monitor`.
pub(crate) use tercet_database::roles::MONITOR as ROLE;

/// The folder of the configuration on a machine.
pub(crate) const FOLDER: &str = "/etc/tercet/monitor";
/// The operating system's user that PostgreSQL's exporter runs as: PostgreSQL knows it by its socket.
pub(crate) const ACCOUNT: &str = "tercet-exporter";
/// The one that Prometheus and Alertmanager run as: the firewall lets it and root connect to Alertmanager.
pub(crate) const MONITOR_ACCOUNT: &str = "tercet-monitor";
