//! A running balancer for a test: on port 0, stopped on drop, with its logs in a temporary folder.

use std::net::SocketAddr;

use tempfile::TempDir;
use tercet_balancer::{Balancer, Config, Listening};
use tercet_observe::log::Destination;
use tercet_observe::{Format, Log};

use crate::backend::Backend;

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    balancer: Option<Balancer>,
    log: Option<(Log, Log)>,
    folder: TempDir,
}

impl Running {
    /// A balancer in front of these servers, named `app-1`, `app-2`, …, with more lines of configuration.
    pub(crate) fn start(servers: &[&Backend], more: &str) -> Self {
        Self::with(config(servers, more))
    }

    pub(crate) fn with(config: Config) -> Self {
        Self::logging(config, Format::Text)
    }

    /// A balancer with logs in this format.
    pub(crate) fn logging(config: Config, format: Format) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let open =
            |name: &str| Log::open("balancer", Destination::File(folder.path().join(name)), format).unwrap();
        let (events, access) = (open("events.log"), open("access.log"));
        let listeners = Listening::bind_all(&config).unwrap();
        let address = listeners[0].local_address().unwrap();
        let balancer =
            Balancer::start(config, listeners, &events, &access, tokio::sync::mpsc::channel(1).0).unwrap();
        Self { address, balancer: Some(balancer), log: Some((events, access)), folder }
    }

    pub(crate) fn balancer(&self) -> &Balancer {
        self.balancer.as_ref().unwrap()
    }

    /// The event log so far.
    pub(crate) fn events(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("events.log")).unwrap()
    }

    /// The access log so far.
    pub(crate) fn accesses(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default()
    }

    /// Stops the balancer and returns its access log.
    pub(crate) fn stop(self) -> String {
        self.stop_for("access.log")
    }

    /// Stops the balancer and returns its event log.
    pub(crate) fn stop_for_events(self) -> String {
        self.stop_for("events.log")
    }

    fn stop_for(mut self, log: &str) -> String {
        self.balancer.take().unwrap().stop().unwrap();
        drop(self.log.take());
        std::fs::read_to_string(self.folder.path().join(log)).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(balancer) = self.balancer.take() {
            balancer.stop().unwrap();
        }
    }
}

/// Pipelining limits with which tests run: off and on.
pub(crate) const PIPELINES: [u16; 2] = [1, 16];

/// The configuration with one worker and this pipelining limit for each server.
pub(crate) fn with_pipeline(config: Config, pipeline: u16) -> Config {
    let mut config = Config { workers: 1, ..config };
    let of_pools = config.pool.values_mut().flat_map(|pool| &mut pool.servers);
    for server in config.servers.iter_mut().chain(of_pools) {
        server.pipeline = pipeline;
    }
    config
}

pub(crate) fn config(servers: &[&Backend], more: &str) -> Config {
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    config_for(&addresses, more)
}

pub(crate) fn config_for(servers: &[SocketAddr], more: &str) -> Config {
    let named: Vec<String> = servers
        .iter()
        .enumerate()
        .map(|(index, address)| format!("{{ name = \"app-{}\", address = \"{address}\" }}", index + 1))
        .collect();
    let text = format!(
        "listen = [\"127.0.0.1:0\"]\nworkers = 2\ndrain = \"1s\"\nserved-by = \"x-served-by\"\nservers = [{}]\n{more}",
        named.join(", ")
    );
    Config::parse(&text, "test.toml").unwrap_or_else(|problems| panic!("{text}\n{}", problems.lines()))
}
