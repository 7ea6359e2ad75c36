//! The edges of a topology: the allowed connections, each with its two ends, address, port, protocol and reason.
//!
//! Firewall rules, `pg_hba.conf`, listen addresses and drawings are computed from this list; nothing else may open a
//! port. An operator's SSH connection to a machine is not between tiers and is not in the list.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::monitor::{ALERTMANAGER, POSTGRES_EXPORTER, PROMETHEUS};
use super::{Application, Machine, Part, Tier, Topology, admin_port};

/// An allowed connection.
#[derive(Clone, Debug)]
pub struct Edge<'a> {
    /// The client.
    pub from: End<'a>,
    /// The server: the part that listens.
    pub to: &'a Part,
    /// The server's machine.
    pub machine: &'a Machine,
    /// The address that the server listens on: loopback if both ends are on one machine.
    pub address: IpAddr,
    /// The TCP port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// The reason, in a few words.
    pub why: &'static str,
}

/// The client of an edge.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// Any client to which the address is reachable.
    Internet,
    /// The Prometheus of the user's own, at this address.
    OwnPrometheus(IpAddr),
    /// A part and its machine.
    Part(&'a Part, &'a Machine),
}

/// The protocol of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP without TLS.
    Http,
    /// HTTP over TLS.
    Https,
    /// PostgreSQL's protocol.
    Postgres,
    /// pgBackRest's protocol, over TLS with certificates of both ends.
    Backup,
    /// Prometheus' text format, over HTTP without TLS.
    Metrics,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Postgres => "postgres",
            Self::Backup => "backup",
            Self::Metrics => "metrics",
        })
    }
}

impl Edge<'_> {
    /// Whether both ends are on one machine.
    pub fn is_local(&self) -> bool {
        self.address.is_loopback()
    }
}

impl fmt::Display for Edge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            End::Internet => f.write_str("internet")?,
            End::OwnPrometheus(address) => write!(f, "your Prometheus at {address}")?,
            End::Part(part, _) => f.write_str(&part.name)?,
        }
        let socket = std::net::SocketAddr::new(self.address, self.port);
        write!(f, " → {} {} {socket}: {}", self.to.name, self.protocol, self.why)
    }
}

/// All edges of a topology, from the internet to the database, then those of the monitor.
pub(super) fn between(topology: &Topology) -> Vec<Edge<'_>> {
    let of = |tier| topology.parts.iter().filter(move |part| part.tier == tier);
    let mut edges = Vec::new();
    for balancer in of(Tier::Balancer) {
        let plain = topology.balancer.listen.iter().map(|listen| (listen, Protocol::Http));
        let tls = topology.balancer.tls.iter().flat_map(|tls| &tls.listen);
        for (listen, protocol) in plain.chain(tls.map(|listen| (listen, Protocol::Https))) {
            edges.push(Edge {
                from: End::Internet,
                to: balancer,
                machine: topology.machine_of(balancer),
                address: listen.ip(),
                port: listen.port(),
                protocol,
                why: "requests of clients",
            });
        }
        for server in of(Tier::Application) {
            for port in server.ports() {
                edges.push(inside(
                    topology,
                    balancer,
                    server,
                    port,
                    "requests by round-robin, health checks",
                ));
                if server.standby.is_some() && is_data_api(topology, server) {
                    let port = admin_port(port);
                    edges.push(inside(topology, balancer, server, port, "whether it is ready, metrics"));
                }
            }
        }
    }
    for server in of(Tier::Application) {
        for peer in of(Tier::Application).filter(|peer| peer.name != server.name) {
            for port in peer.ports() {
                edges.push(inside(
                    topology,
                    server,
                    peer,
                    port,
                    "application servers may connect to each other",
                ));
            }
        }
    }
    for database in of(Tier::Database) {
        for server in of(Tier::Application) {
            let port = database.port.number;
            edges.push(inside(topology, server, database, port, "queries, one transaction a request"));
        }
        for backup in of(Tier::Backup) {
            let port = backup.port.number;
            for (from, to, why) in
                [(database, backup, "the write-ahead log, restores"), (backup, database, "backups")]
            {
                edges.push(Edge { protocol: Protocol::Backup, ..inside(topology, from, to, port, why) });
            }
        }
    }
    edges.extend(monitoring(topology));
    edges
}

/// The edges from Prometheus, the monitor's or the user's own, to everything that has metrics, and to Alertmanager.
fn monitoring(topology: &Topology) -> Vec<Edge<'_>> {
    let prometheus = topology.part(PROMETHEUS);
    let mut edges = Vec::new();
    let mut scraped = |part, port, why| match (prometheus, topology.own_prometheus) {
        (Some(prometheus), _) => {
            edges.push(Edge { protocol: Protocol::Metrics, ..inside(topology, prometheus, part, port, why) });
        }
        (None, Some(address)) => {
            let machine = topology.machine_of(part);
            let from = End::OwnPrometheus(address);
            let protocol = Protocol::Metrics;
            edges.push(Edge { from, to: part, machine, address: machine.address, port, protocol, why });
        }
        (None, None) => {}
    };
    for part in &topology.parts {
        match part.tier {
            Tier::Balancer => scraped(part, topology.balancer.metrics_port, "metrics of the balancer"),
            Tier::Application if is_data_api(topology, part) => {
                for port in part.ports() {
                    scraped(part, admin_port(port), "metrics of the data API");
                }
            }
            Tier::Monitor if part.name == POSTGRES_EXPORTER => {
                scraped(part, part.port.number, "metrics of PostgreSQL");
            }
            Tier::Monitor if ![PROMETHEUS, ALERTMANAGER].contains(&part.name.as_str()) => {
                scraped(part, part.port.number, "metrics of the machine");
            }
            Tier::Application | Tier::Database | Tier::Backup | Tier::Monitor => {}
        }
    }
    let alertmanager = prometheus.zip(topology.part(ALERTMANAGER));
    edges.extend(alertmanager.map(|(from, to)| inside(topology, from, to, to.port.number, "alerts")));
    edges
}

/// Whether a part is a server of the data API.
fn is_data_api(topology: &Topology, part: &Part) -> bool {
    topology.application_of(part).and_then(Application::data_api).is_some()
}

fn inside<'a>(
    topology: &'a Topology,
    from: &'a Part,
    to: &'a Part,
    port: u16,
    why: &'static str,
) -> Edge<'a> {
    let machine = topology.machine_of(to);
    Edge {
        from: End::Part(from, topology.machine_of(from)),
        to,
        machine,
        address: if from.machine == to.machine { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { machine.address },
        port,
        protocol: if to.tier == Tier::Database { Protocol::Postgres } else { Protocol::Http },
        why,
    }
}
