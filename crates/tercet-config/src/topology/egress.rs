//! Where the processes of a tier connect to, besides the edges of the topology.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use tercet_options::api;
use tercet_options::otlp::Otlp;
use tercet_options::web_url::host_and_port;

use super::{Network, Repository, Tier, Topology};

/// The connections that the processes of a tier may open besides the edges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Egress {
    /// To every address.
    Anywhere,
    /// To these destinations, and to name servers if there are any.
    Only(Vec<Destination>),
}

/// Where connections go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The network; `None` for every address.
    pub network: Option<Network>,
    /// The TCP port; `None` for every one.
    pub port: Option<u16>,
}

/// A text that is no destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotADestination;

impl Default for Egress {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

impl Destination {
    /// This port of every address.
    pub fn port(port: u16) -> Self {
        Self { network: None, port: Some(port) }
    }

    /// Whether connections to an address and port go to it.
    pub fn contains(&self, address: SocketAddr) -> bool {
        self.network.is_none_or(|network| network.contains(address.ip()))
            && self.port.is_none_or(|port| port == address.port())
    }
}

impl FromStr for Destination {
    type Err = NotADestination;

    /// Parses `10.0.0.0/24`, `10.0.0.5:6379`, `[2001:db8::]/32`, `[2001:db8::5]:6379` or `*:443`.
    fn from_str(text: &str) -> Result<Self, NotADestination> {
        if let Ok(network) = text.parse() {
            return Ok(Self { network: Some(network), port: None });
        }
        let (network, port) = match text.rsplit_once("]:").or_else(|| text.rsplit_once(':')) {
            Some((network, port)) => (network, Some(port)),
            None => (text, None),
        };
        let port = port.map(|port| port.parse().ok().filter(|port| *port > 0).ok_or(NotADestination));
        let port = port.transpose()?;
        let network = match network {
            "*" if port.is_some() => None,
            network => {
                let plain = network.strip_prefix('[').map(|it| it.replacen(']', "", 1));
                // Without brackets, a port could be the end of an IPv6 address.
                let is_clear = plain.is_some() || !network.contains(':');
                let parsed = plain.as_deref().unwrap_or(network).parse();
                Some(parsed.ok().filter(|_| is_clear).ok_or(NotADestination)?)
            }
        };
        Ok(Self { network, port })
    }
}

/// As it is written in `tercet.toml`.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.network {
            Some(network) if network.is_ipv4() || self.port.is_none() => write!(f, "{network}")?,
            Some(network) => write!(f, "[{network}]")?,
            None => f.write_str("*")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Where the processes of a tier may connect to besides the edges.
pub(super) fn of(topology: &Topology, tier: Tier) -> Egress {
    let collector = topology.otlp.as_ref().and_then(collector);
    match (of_options(topology, tier), tier) {
        (Egress::Only(mut destinations), Tier::Balancer | Tier::Application) => {
            destinations.extend(collector.filter(|it| !destinations.contains(it)));
            Egress::Only(destinations)
        }
        (egress, _) => egress,
    }
}

/// Where traces are sent to: an address and a port, or the port alone if it has a name.
fn collector(otlp: &Otlp) -> Option<Destination> {
    let (host, port) = host_and_port(otlp.endpoint.as_ref()?)?;
    format!("{host}:{port}").parse().ok().or_else(|| Some(Destination::port(port)))
}

/// Where the options of a tier lead to.
fn of_options(topology: &Topology, tier: Tier) -> Egress {
    match tier {
        // Its processes are of one user, by whom the firewall knows them: each may do what one of them may.
        Tier::Application => {
            let all = topology.applications.iter();
            all.fold(Egress::default(), |egress, it| either(egress, it.destinations()))
        }
        Tier::Database | Tier::Backup => {
            let store = topology.backup.as_ref().map(|backup| &backup.repository);
            match (topology.database.egress.clone(), store) {
                (Egress::Only(mut destinations), Some(Repository::S3(store))) => {
                    destinations.push(Destination::port(store.port));
                    Egress::Only(destinations)
                }
                (egress, _) => egress,
            }
        }
        Tier::Balancer if !topology.balancer.domains.is_empty() => {
            // The authority, whose directory may name another port than its own; the self-check of a domain uses port 80.
            let directory = api::https_port(topology.balancer.acme.directory.url());
            let ports = BTreeSet::from([80, 443, directory]);
            Egress::Only(ports.into_iter().map(Destination::port).collect())
        }
        Tier::Balancer => Egress::default(),
        // Receivers of alerts may be anywhere.
        Tier::Monitor => Egress::Anywhere,
    }
}

/// What one of two allows.
fn either(first: Egress, second: Egress) -> Egress {
    match (first, second) {
        (Egress::Only(mut destinations), Egress::Only(more)) => {
            destinations.extend(more.into_iter().filter(|it| !destinations.contains(it)).collect::<Vec<_>>());
            Egress::Only(destinations)
        }
        _ => Egress::Anywhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_network_a_port_or_both() {
        for (text, shown) in [
            ("10.0.0.0/24", "10.0.0.0/24"),
            ("10.0.0.5:6379", "10.0.0.5/32:6379"),
            ("10.0.0.0/24:6379", "10.0.0.0/24:6379"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("[2001:db8::5]:443", "[2001:db8::5/128]:443"),
            ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
            ("*:443", "*:443"),
        ] {
            let destination: Destination = text.parse().unwrap();
            assert_eq!(destination.to_string(), shown, "{text}");
            assert_eq!(shown.parse(), Ok(destination), "{shown}");
        }
        let destination: Destination = "10.0.0.0/24:6379".parse().unwrap();
        for (address, contains) in [("10.0.0.9:6379", true), ("10.0.1.9:6379", false), ("10.0.0.9:80", false)]
        {
            assert_eq!(destination.contains(address.parse().unwrap()), contains, "{address}");
        }
        for text in
            ["", "*", ":443", "*:0", "*:https", "shop:443", "10.0.0.0/33:1", "10.0.0.5:", "2001:db8::5:70000"]
        {
            assert_eq!(text.parse::<Destination>(), Err(NotADestination), "{text}");
        }
    }
}
