//! The arguments of the commands for alerts and monitoring.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Machines;

/// Show the machines in a browser: requests, servers, machines, logs and alerts, live.
///
/// Serves the page on this computer, until Ctrl-C, at an address that is printed; what it shows is read over ssh while it is open.
/// No port opens on a machine. A `tercet up` has its own dashboard: it prints the address.
#[derive(Args, Debug)]
pub(crate) struct Dashboard {
    #[command(flatten)]
    pub(crate) machines: Machines,
}

/// Show the alerts that fire, or test their receivers.
///
/// The machine with the tier `monitor` watches all machines; `[alerts]` in tercet.toml says where alerts are sent.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Alerts {
    #[command(subcommand)]
    pub(crate) verb: Option<AlertsVerb>,
    #[command(flatten)]
    pub(crate) list: AlertsList,
}

/// An action on the alerts.
#[derive(Debug, Subcommand)]
pub(crate) enum AlertsVerb {
    Test(AlertsTest),
}

/// Show the alerts that fire now, and what to do about each.
#[derive(Args, Debug)]
pub(crate) struct AlertsList {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Print them as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Send a test alert to each receiver, and show which of them got it.
#[derive(Args, Debug)]
pub(crate) struct AlertsTest {
    #[command(flatten)]
    pub(crate) machines: Machines,
}

/// Files for a monitoring system of your own.
#[derive(Debug, Subcommand)]
pub(crate) enum Monitoring {
    Export(MonitoringExport),
}

/// Write the scrape configuration, the rules of the alerts and a Grafana dashboard, for a Prometheus of your own.
///
/// The machines open their metrics to the address that `prometheus` in the section `[monitoring]` of tercet.toml names.
#[derive(Args, Debug)]
pub(crate) struct MonitoringExport {
    /// The folder to write to; it is created
    #[arg(value_name = "DIR")]
    pub(crate) target: PathBuf,
    /// The project's folder, with tercet.toml
    #[arg(default_value = ".", value_name = "PROJECT")]
    pub(crate) folder: PathBuf,
}
