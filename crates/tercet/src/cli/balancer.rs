//! The balancer alone, and the certificates and the maintenance of the balancer.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{LogOptions, Machines};

/// Run one balancer in the foreground.
#[derive(Args, Debug)]
pub(crate) struct Balancer {
    /// The balancer's own configuration file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Run as the worker process; the supervisor is at the other end of standard input
    #[arg(long, hide = true)]
    pub(crate) worker: bool,
    /// Run as the certificates process; the supervisor is at the other end of standard input
    #[arg(long, hide = true, conflicts_with = "worker")]
    pub(crate) certificates: bool,
    #[command(flatten)]
    pub(crate) log: LogOptions,
}

/// Show the balancer's certificates: names, issuer, expiry, next renewal, last error.
///
/// On machines it reads them over ssh, of `tercet up` on this machine.
#[derive(Args, Debug)]
pub(crate) struct Certificates {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// Show those of `tercet balancer` with this configuration file
    #[arg(long, value_name = "FILE", conflicts_with = "folder")]
    pub(crate) config: Option<PathBuf>,
    /// Print them as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Turn maintenance on or off.
#[derive(Debug, Subcommand)]
pub(crate) enum Maintenance {
    /// Answer requests with status 503 from now on.
    On(MaintenanceOf),
    /// Serve requests again.
    Off(MaintenanceOf),
}

/// The balancer whose maintenance it is: on machines, or of `tercet up` on this machine.
#[derive(Args, Debug)]
pub(crate) struct MaintenanceOf {
    #[command(flatten)]
    pub(crate) machines: Machines,
    /// That of `tercet balancer` with this configuration file
    #[arg(long, value_name = "FILE", conflicts_with = "folder")]
    pub(crate) config: Option<PathBuf>,
}
