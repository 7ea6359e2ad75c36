//! Benchmarks against the peers, one file each. Peers that are not installed are left out.

mod api;
mod balancer;
mod content;
pub(crate) mod load;
mod machine;
mod observation;
mod process;
pub(crate) mod report;
mod system;
mod up;
pub(crate) mod workload;

use anyhow::Result;

use crate::workspace::Workspace;

/// What to measure.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// The balancer beside nginx and HAProxy.
    Balancer(balancer::Arguments),
    /// The data API beside FastAPI.
    Api(api::Arguments),
    /// The whole chain, balancer to PostgreSQL: tercet and nginx in front of the data API and of FastAPI.
    System(system::Arguments),
    /// Static files and compression beside nginx.
    Content(content::Arguments),
    /// What metrics, traces and the dashboard cost.
    Observation(observation::Arguments),
}

impl Bench {
    /// Measures, prints, and writes the table in docs/benchmarks.md.
    pub(crate) fn run(self, workspace: &Workspace) -> Result<()> {
        match self {
            Self::Balancer(arguments) => balancer::run(workspace, &arguments),
            Self::Api(arguments) => api::run(workspace, &arguments),
            Self::System(arguments) => system::run(workspace, &arguments),
            Self::Content(arguments) => content::run(workspace, &arguments),
            Self::Observation(arguments) => observation::run(workspace, &arguments),
        }
    }
}
