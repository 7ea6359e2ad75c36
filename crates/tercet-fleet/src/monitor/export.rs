//! What a Prometheus and a Grafana of the user's own need to watch a project.

use serde_json::json;
use tercet_config::{Protocol, Topology};

use super::prometheus::{self, scrapes};
use super::yaml::yaml;

/// The dashboard for Grafana.
const DASHBOARD: &str = include_str!("export/dashboard.json");

/// The names and texts of the files; `None` if no edge leads to the metrics of the machines.
pub fn files(topology: &Topology) -> Option<Vec<(&'static str, String)>> {
    if !topology.edges().iter().any(|edge| edge.protocol == Protocol::Metrics) {
        return None;
    }
    let mut scrapes = scrapes(topology);
    for scrape in &mut scrapes {
        // The rules look back one minute: a longer interval would leave them too few samples.
        scrape["scrape_interval"] = prometheus::INTERVAL.into();
        scrape["scrape_timeout"] = prometheus::TIMEOUT.into();
    }
    let scrapes = json!({ "scrape_configs": scrapes });
    Some(vec![
        ("tercet-scrapes.yml", format!("{}{}", prometheus::WRITTEN, yaml(&scrapes))),
        ("tercet-rules.yml", prometheus::rules(topology)),
        ("tercet-dashboard.json", DASHBOARD.to_owned()),
    ])
}

#[cfg(test)]
mod tests;
