//! The nightly test of the connections from one machine to all others, by that machine itself: an edge must connect, anything
//! else must be dropped. Unlike `tercet prove`, it needs no operator; it knows only the machines' private addresses, and leaves
//! sshd out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tercet_config::{Edge, End, Machine, Topology};

use super::textfile::{self, Gauge};
use crate::reachability::{COMMON, Reachability, connect_all};

/// The file with the connections that a machine tests.
pub(crate) const FILE: &str = "/etc/tercet/connections.json";

/// A connection to test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connection {
    /// The machine that is connected to.
    to: String,
    address: SocketAddr,
    expected: Expected,
}

/// The expected result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Expected {
    /// It connects.
    Open,
    /// It connects, or is refused: the port of the next release has no listener yet.
    OpenOrRefused,
    /// It is dropped.
    Closed,
}

impl Expected {
    fn is_met_by(self, reached: &Reachability) -> bool {
        match (self, reached) {
            (Self::Open | Self::OpenOrRefused, Reachability::Open)
            | (Self::OpenOrRefused, Reachability::Refused) => true,
            (Self::Open | Self::OpenOrRefused, _) => false,
            (Self::Closed, reached) => !matches!(reached, Reachability::Open | Reachability::Refused),
        }
    }
}

/// The connections that `machine` tests.
pub(crate) fn from(topology: &Topology, machine: &Machine) -> Vec<Connection> {
    let edges = topology.edges();
    let ports: BTreeSet<u16> = COMMON.iter().copied().chain(edges.iter().map(|edge| edge.port)).collect();
    let mut connections = Vec::new();
    for other in topology.machines().iter().filter(|other| other.name != machine.name) {
        for port in ports.iter().copied().filter(|port| *port != 22) {
            let address = SocketAddr::new(other.address, port);
            let edge = edges.iter().find(|edge| leads(edge, machine, address));
            let expected = match edge {
                Some(edge) if edge.to.standby.is_some() => Expected::OpenOrRefused,
                Some(_) => Expected::Open,
                None => Expected::Closed,
            };
            connections.push(Connection { to: other.name.clone(), address, expected });
        }
    }
    connections
}

/// Whether an edge lets a machine connect to an address.
fn leads(edge: &Edge<'_>, from: &Machine, to: SocketAddr) -> bool {
    let from_there = match edge.from {
        End::Internet => {
            edge.address == to.ip()
                || edge.address.is_unspecified()
                    && edge.address.is_ipv4() == to.is_ipv4()
                    && edge.machine.address == to.ip()
        }
        End::Part(_, machine) => machine.name == from.name && edge.address == to.ip(),
        End::OwnPrometheus(_) => false,
    };
    edge.port == to.port() && from_there
}

/// Tests the connections of this machine, and writes how many failed; `say` gets a line for each of these.
///
/// # Errors
/// One failed, or they cannot be tested.
pub fn test(say: &mut dyn FnMut(&str)) -> Result<()> {
    let text = fs::read(FILE).context(FILE)?;
    let connections: Vec<Connection> = serde_json::from_slice(&text).context(FILE)?;
    let addresses: Vec<SocketAddr> = connections.iter().map(|it| it.address).collect();
    let reached = connect_all(&addresses, None)?;
    let tested = connections.iter().zip(&reached);
    let failed: Vec<_> = tested.filter(|(it, reached)| !it.expected.is_met_by(reached)).collect();
    let mut by_machine: BTreeMap<&str, u32> = BTreeMap::new();
    for (Connection { to, address, expected }, _) in &failed {
        let problem = if *expected == Expected::Closed { "an open port" } else { "a broken edge" };
        say(&format!("{problem}: {to} {address}"));
        *by_machine.entry(to).or_default() += 1;
    }
    let machines: BTreeSet<&str> = connections.iter().map(|it| it.to.as_str()).collect();
    let samples = machines.iter().map(|to| {
        let count = by_machine.get(to).copied().unwrap_or_default();
        (Some(("to", (*to).to_owned())), f64::from(count))
    });
    let failures = Gauge {
        name: "tercet_prove_failures",
        help: "Connections to another machine that are not as the topology has them, in the last test.",
        samples: samples.collect(),
    };
    let now = jiff::Timestamp::now().as_second() as f64;
    let at =
        Gauge::of("tercet_prove_last_timestamp_seconds", "When the last test of all connections ended.", now);
    textfile::write(textfile::PROVE, "root", &[failures, at])?;
    if !failed.is_empty() {
        bail!("{} of {} connections are not as the topology has them", failed.len(), connections.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_tests_its_edges_and_what_must_be_closed() {
        let four = "machine = [
            { name = 'lb', ssh = 'lb', address = '10.0.0.10', tiers = ['balancer'] },
            { name = 'app1', ssh = 'app1', address = '10.0.0.11', tiers = ['application'] },
            { name = 'app2', ssh = 'app2', address = '10.0.0.12', tiers = ['application'] },
            { name = 'db', ssh = 'db', address = '10.0.0.20', tiers = ['database'] },
        ]";
        let origin = tercet_config::Origin { file: "tercet.toml", folder: "shop" };
        let topology = tercet_config::parse(four, origin).unwrap();
        let expected = |from: usize, address: &str| {
            let address = address.parse().unwrap();
            let mut all = from_machine(&topology, from).into_iter();
            all.find(|it| it.address == address).map(|it| it.expected)
        };
        assert_eq!(expected(1, "10.0.0.20:5432"), Some(Expected::Open));
        assert_eq!(expected(0, "10.0.0.20:5432"), Some(Expected::Closed));
        assert_eq!(expected(0, "10.0.0.11:8082"), Some(Expected::OpenOrRefused));
        assert_eq!(expected(3, "10.0.0.10:80"), Some(Expected::Open));
        assert_eq!(expected(3, "10.0.0.20:5432"), None);
        assert_eq!(expected(3, "10.0.0.10:22"), None);
        assert!(Expected::Closed.is_met_by(&Reachability::TimedOut));
        assert!(!Expected::Closed.is_met_by(&Reachability::Refused));
        assert!(!Expected::Open.is_met_by(&Reachability::NoRoute));
    }

    fn from_machine(topology: &Topology, index: usize) -> Vec<Connection> {
        from(topology, &topology.machines()[index])
    }
}
