//! Tier 1 on this machine: `tercet balancer`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use super::own_command;
use crate::supervisor::{LastFailure, Launch, Part, answers};

/// The drain time when the balancer stops: shorter than the default, because a user waits at the terminal.
pub(super) const DRAIN: Duration = Duration::from_secs(10);

/// The balancer.
pub(super) struct Balancer {
    pub(super) listen: Vec<SocketAddr>,
    pub(super) admin: SocketAddr,
    pub(super) config: PathBuf,
    pub(super) folder: PathBuf,
    /// The text of its configuration.
    pub(super) text: String,
    /// Why the last readiness check failed.
    pub(super) last_failure: LastFailure,
}

impl Part for Balancer {
    fn name(&self) -> &'static str {
        super::BALANCER
    }

    fn address(&self) -> String {
        self.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    async fn launch(&mut self) -> anyhow::Result<Launch> {
        own_command("balancer", super::BALANCER, &self.config, &self.folder)
    }

    async fn ready(&self, _: u32) {
        answers(self.admin, "/ready", |status| status == 200, &self.last_failure).await;
    }

    fn last_failure(&self) -> Option<String> {
        self.last_failure.reason()
    }

    fn start_timeout(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn stop(&self) -> Vec<(Signal, Duration)> {
        vec![(Signal::TERM, DRAIN + Duration::from_secs(5)), (Signal::KILL, Duration::from_secs(5))]
    }
}
