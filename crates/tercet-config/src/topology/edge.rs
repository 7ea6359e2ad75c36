//! The edges of the picture: who may connect to whom, where, and why.
//!
//! Firewall rules, `pg_hba.conf`, listen addresses and drawings are computed from this list; nothing else may
//! open a port. How an operator gets to a machine is no edge between tiers and is not here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::{Machine, Part, Server, Tier, Topology, admin_port};

/// One edge.
#[derive(Clone, Debug)]
pub struct Edge<'a> {
    /// Who connects.
    pub from: End<'a>,
    /// The part that is connected to.
    pub to: &'a Part,
    /// The machine that part runs on.
    pub machine: &'a Machine,
    /// The address that part listens on for it: loopback when both ends are on one machine.
    pub address: IpAddr,
    /// The TCP port there.
    pub port: u16,
    /// What is spoken.
    pub protocol: Protocol,
    /// What for, in a few words.
    pub why: &'static str,
}

/// Who connects.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// Any client that can reach the address.
    Internet,
    /// A part, on its machine.
    Part(&'a Part, &'a Machine),
}

/// What is spoken on an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP in the clear.
    Http,
    /// HTTP over TLS.
    Https,
    /// PostgreSQL's protocol.
    Postgres,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Postgres => "postgres",
        })
    }
}

impl Edge<'_> {
    /// Whether it never leaves the machine.
    pub fn is_local(&self) -> bool {
        self.address.is_loopback()
    }
}

impl fmt::Display for Edge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            End::Internet => f.write_str("internet")?,
            End::Part(part, _) => f.write_str(&part.name)?,
        }
        let socket = std::net::SocketAddr::new(self.address, self.port);
        write!(f, " → {} {} {socket}: {}", self.to.name, self.protocol, self.why)
    }
}

/// Every edge of a topology, in the order of the picture.
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
                edges.push(inside(topology, balancer, server, port, "requests in turn, health checks"));
                if server.standby.is_some() && matches!(topology.application.server, Server::Api(_)) {
                    let port = admin_port(port);
                    edges.push(inside(topology, balancer, server, port, "whether it is ready, metrics"));
                }
            }
        }
    }
    for server in of(Tier::Application) {
        for peer in of(Tier::Application).filter(|peer| peer.name != server.name) {
            for port in peer.ports() {
                edges.push(inside(topology, server, peer, port, "application servers may ask each other"));
            }
        }
    }
    for database in of(Tier::Database) {
        for server in of(Tier::Application) {
            let port = database.port.number;
            edges.push(inside(topology, server, database, port, "queries, one transaction a request"));
        }
    }
    edges
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
