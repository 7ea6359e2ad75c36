//! The configuration of Prometheus: what it scrapes, by the edges that lead from it, and the file of the rules.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tercet_config::{ALERTMANAGER, Edge, POSTGRES_EXPORTER, Protocol, Tier, Topology};

use super::alertmanager::HEARTBEAT;
use super::rules::{self, Rule};
use super::yaml::yaml;

/// The name of the file of the rules, beside the configuration.
pub(crate) const RULES: &str = "rules.yml";
/// How often metrics are scraped and rules are evaluated, in seconds.
pub(super) const INTERVAL: &str = "5s";
/// A scrape that takes longer has failed.
pub(super) const TIMEOUT: &str = "4s";
/// The disk space that a machine's metrics of 15 days take, and that of all others, in MB: measured in the lab.
const MEGABYTES: (u64, u64) = (400, 600);

/// The first line of a file.
pub(super) const WRITTEN: &str =
    "# Written by tercet from the edges of the topology; changes are undone by the next apply.\n";

/// A group of targets with the same kind of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Job {
    /// The node exporters.
    Machine,
    /// The balancer.
    Balancer,
    /// The data API's servers.
    Api,
    /// PostgreSQL's exporter.
    Postgresql,
}

impl Job {
    fn of(edge: &Edge<'_>) -> Self {
        match edge.to.tier {
            Tier::Balancer => Self::Balancer,
            Tier::Application => Self::Api,
            _ if edge.to.name == POSTGRES_EXPORTER => Self::Postgresql,
            _ => Self::Machine,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Balancer => "balancer",
            Self::Api => "api",
            Self::Postgresql => "postgresql",
        }
    }
}

/// The targets of each job with their labels.
fn targets(topology: &Topology) -> BTreeMap<Job, Vec<Value>> {
    let mut jobs: BTreeMap<Job, Vec<Value>> = BTreeMap::new();
    for edge in topology.edges().iter().filter(|edge| edge.protocol == Protocol::Metrics) {
        let mut labels = json!({ "machine": edge.machine.name });
        if edge.to.tier == Tier::Application {
            labels["server"] = edge.to.name.clone().into();
        }
        let address = SocketAddr::new(edge.address, edge.port).to_string();
        jobs.entry(Job::of(edge)).or_default().push(json!({ "targets": [address], "labels": labels }));
    }
    jobs
}

/// The scrape configurations. The metrics that the balancer has of a server get the label of that server's machine.
pub(crate) fn scrapes(topology: &Topology) -> Vec<Value> {
    let of_server = |part: &tercet_config::Part| {
        json!({
            "source_labels": ["__name__", "server"],
            "regex": format!("tercet_balancer_server_.*;{}", part.name),
            "target_label": "machine",
            "replacement": topology.machine_of(part).name,
        })
    };
    let servers = topology.parts().iter().filter(|part| part.tier == Tier::Application);
    let relabels: Vec<Value> = servers.map(of_server).collect();
    let mut scrapes = Vec::new();
    for (job, targets) in targets(topology) {
        let mut scrape = json!({ "job_name": job.name(), "static_configs": targets });
        if job == Job::Balancer {
            scrape["metric_relabel_configs"] = relabels.clone().into();
        }
        scrapes.push(scrape);
    }
    scrapes
}

/// The configuration file (<https://prometheus.io/docs/prometheus/latest/configuration/configuration/>).
pub(crate) fn configuration(topology: &Topology) -> String {
    let edges = topology.edges();
    let alertmanager = edges.iter().find(|edge| edge.to.name == ALERTMANAGER);
    let alertmanager: Vec<String> =
        alertmanager.iter().map(|edge| SocketAddr::new(edge.address, edge.port).to_string()).collect();
    let own = alertmanager.iter().map(|address| {
        let machine = topology.carrying(Tier::Monitor).map(|machine| &machine.name);
        json!({ "targets": [address], "labels": { "machine": machine } })
    });
    let mut scrapes = scrapes(topology);
    scrapes.push(json!({ "job_name": "alertmanager", "static_configs": own.collect::<Vec<_>>() }));
    let configuration = json!({
        "global": {
            "scrape_interval": INTERVAL,
            "scrape_timeout": TIMEOUT,
            "evaluation_interval": INTERVAL,
            "external_labels": { "project": topology.name() },
        },
        "alerting": { "alertmanagers": [{ "static_configs": [{ "targets": alertmanager }] }] },
        "rule_files": [RULES],
        "scrape_configs": scrapes,
    });
    format!("{WRITTEN}{}", yaml(&configuration))
}

/// The file of the rules that apply to a topology
/// (<https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/>).
pub(crate) fn rules(topology: &Topology) -> String {
    let mut all: Vec<Value> = rules::of(topology).map(rule).collect();
    if topology.alerts().heartbeat.is_some() {
        all.push(json!({ "alert": HEARTBEAT, "expr": "vector(1)", "annotations": { "summary": "the monitor works" } }));
    }
    group(&all)
}

/// The file of these rules.
#[cfg(test)]
pub(crate) fn file<'r>(rules: impl Iterator<Item = &'r Rule>) -> String {
    group(&rules.map(rule).collect::<Vec<_>>())
}

fn group(rules: &[Value]) -> String {
    format!("{WRITTEN}{}", yaml(&json!({ "groups": [{ "name": "tercet", "rules": rules }] })))
}

fn rule(rule: &Rule) -> Value {
    json!({
        "alert": rule.name,
        "expr": rule.unexplained(),
        "for": format!("{}s", rule.hold.as_secs()),
        "labels": { "severity": rule.severity.to_string() },
        "annotations": { "summary": rule.summary, "description": rule.action },
    })
}

/// The size of the history at which the oldest is dropped, in MB: what 15 days take, and at most a quarter of the disk.
pub(crate) fn megabytes(topology: &Topology, disk_kib: u64) -> u64 {
    let (each, all) = MEGABYTES;
    (all + each * topology.machines().len() as u64).min(disk_kib / 4096).max(256)
}
