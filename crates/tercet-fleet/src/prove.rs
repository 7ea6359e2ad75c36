//! Tests that only the topology's edges accept connections, that the tiers open no others, and that only application machines reach
//! the database.
//!
//! From every vantage point (where the operator is, and each machine) to every address of every machine: the ports of the topology,
//! those that any process of the machine listens on or another table translates, and common ones; or all. Edges must connect, all
//! others must be dropped. What decides an unexpected result is read from the machine (`explanation`). Logins to PostgreSQL are
//! tried in `database`, what the tiers open in `egress`.

mod database;
mod egress;
mod explanation;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use anyhow::Result;
use serde::Serialize;
use tercet_config::{End, SshFrom, Tier};

use crate::agent::{Query, Reply};
use crate::at_once::at_once;
use crate::fleet::{Fleet, Member, unexpected};
use crate::inside::Inside;
use crate::reachability::{COMMON, Reachability, connect_all, scan};
use crate::ssh::Route;

/// The vantage point that is no machine of the fleet.
const OPERATOR: &str = "operator";

/// Which ports are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Those that may be open.
    Likely,
    /// All 65,535, `per_second` of them from each vantage point.
    All {
        /// The rate.
        per_second: u32,
    },
}

/// A connection or login attempt and its result.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// The client: `operator`, or a machine's name.
    pub from: String,
    /// The server's machine.
    pub to: String,
    /// Address and port.
    pub address: SocketAddr,
    /// `tcp`, or `postgres` and the variant of the login.
    pub what: String,
    /// Whether the topology has an edge for it.
    #[serde(rename = "drawn")]
    pub allowed: bool,
    /// The result.
    pub outcome: String,
    /// Whether it was tried: there was a route from the client to the server.
    pub tried: bool,
    /// Whether the result is the expected one, as far as it was tried.
    pub passed: bool,
    /// The table and chain, the line of pg_hba.conf or the setting that decides, for an unexpected result.
    pub rule: Option<String>,
}

/// Makes all checks. With all ports, those that got no answer and that no edge has are not in the result.
///
/// # Errors
/// A machine that should make attempts cannot be reached.
pub fn prove(fleet: &Fleet<'_>, ports: Ports) -> Result<Vec<Check>> {
    let routes = at_once(&fleet.machines, SshRoute::of)?;
    let insides = at_once(&fleet.machines, |member| match fleet.agent(member).ask(Query::Inside)? {
        Reply::Inside(inside) => Ok(inside),
        _ => Err(unexpected(&member.machine.name)),
    })?;
    let targets = targets(fleet, &routes, &insides);
    let mut vantages: Vec<Option<&Member<'_>>> = vec![None];
    vantages.extend(fleet.machines.iter().map(Some));
    let mut checks: Vec<Check> =
        at_once(&vantages, |from| network(fleet, *from, &routes, &targets, ports))?.concat();
    explanation::explain(fleet, &insides, &mut checks)?;
    let applications: Vec<&Member<'_>> =
        fleet.machines.iter().filter(|member| member.machine.tiers.contains(&Tier::Application)).collect();
    let outgoing = at_once(&fleet.machines, |member| egress::attempts(fleet, member, &checks))?.concat();
    checks.extend(outgoing);
    checks.extend(at_once(&applications, |member| database::logins(fleet, member))?.concat());
    Ok(checks)
}

/// How the operator's ssh gets to a machine.
struct SshRoute {
    /// The addresses of the host that it connects to.
    addresses: Vec<IpAddr>,
    /// Whether it connects from where the operator is, without a jump host.
    is_direct: bool,
}

impl SshRoute {
    fn of(member: &Member<'_>) -> Result<Self> {
        let Route { host, is_direct } = member.remote.route()?;
        let addresses = (host.as_str(), 0).to_socket_addrs().into_iter().flatten();
        Ok(Self { addresses: addresses.map(|address| address.ip()).collect(), is_direct })
    }
}

/// Every address and port to check, with the index of the machine in the fleet.
fn targets(fleet: &Fleet<'_>, routes: &[SshRoute], insides: &[Inside]) -> Vec<(usize, SocketAddr)> {
    let edges = fleet.topology.edges();
    let mut targets = Vec::new();
    for (place, (member, route)) in fleet.machines.iter().zip(routes).enumerate() {
        let mut ports: BTreeSet<u16> = COMMON.iter().copied().collect();
        ports.extend(edges.iter().map(|edge| edge.port));
        ports.insert(member.system.operator.1);
        ports.extend(insides[place].ports());
        let mut addresses: BTreeSet<IpAddr> = member.system.addresses.iter().copied().collect();
        addresses.insert(member.machine.address);
        // ssh may connect to a public address that the machine does not have (behind NAT).
        addresses.extend(&route.addresses);
        for address in addresses {
            targets.extend(ports.iter().map(|port| (place, SocketAddr::new(address, *port))));
        }
    }
    targets
}

/// The checks from one vantage point. A machine is not checked from itself, since no firewall applies to loopback.
fn network(
    fleet: &Fleet<'_>,
    from: Option<&Member<'_>>,
    routes: &[SshRoute],
    targets: &[(usize, SocketAddr)],
    ports: Ports,
) -> Result<Vec<Check>> {
    let mut others: Vec<(usize, SocketAddr)> = targets
        .iter()
        .filter(|(place, _)| from.is_none_or(|from| fleet.machines[*place].machine.name != from.machine.name))
        .copied()
        .collect();
    if let Ports::All { per_second } = ports {
        let places: BTreeMap<IpAddr, usize> = others.iter().map(|(place, at)| (at.ip(), *place)).collect();
        let addresses: Vec<IpAddr> = places.keys().copied().collect();
        let answers = match from {
            None => scan(&addresses, per_second)?,
            Some(member) => match fleet.agent(member).ask(Query::Scan { addresses, per_second })? {
                Reply::Scanned(answers) => answers,
                _ => return Err(unexpected(&member.machine.name)),
            },
        };
        let known: BTreeSet<SocketAddr> = others.iter().map(|(_, at)| *at).collect();
        let more = answers
            .into_iter()
            .filter(|(at, reached)| *reached != Reachability::NoRoute && !known.contains(at));
        others.extend(more.filter_map(|(at, _)| Some((*places.get(&at.ip())?, at))));
    }
    let addresses: Vec<SocketAddr> = others.iter().map(|(_, address)| *address).collect();
    let reached = match from {
        None => connect_all(&addresses, None)?,
        Some(member) => match fleet.agent(member).ask(Query::Connect { targets: addresses, user: None })? {
            Reply::Connected(reached) => reached,
            _ => return Err(unexpected(&member.machine.name)),
        },
    };
    let checks = others.into_iter().zip(reached).map(|((place, address), reached)| {
        let to = &fleet.machines[place];
        let expected = expected(fleet, from, to, &routes[place], address);
        Check {
            from: from.map_or(OPERATOR, |member| &member.machine.name).to_owned(),
            to: to.machine.name.clone(),
            address,
            what: "tcp".to_owned(),
            allowed: matches!(expected, Expected::Open | Expected::OpenOrRefused),
            outcome: outcome(&reached),
            tried: reached != Reachability::NoRoute,
            passed: passes(expected, &reached, from.is_none()),
            rule: None,
        }
    });
    Ok(checks.collect())
}

/// The expected result of a connection to sshd from a machine with these addresses, of which it uses one.
fn ssh_between(ssh_from: &SshFrom, operator: IpAddr, sources: &[IpAddr]) -> Expected {
    let accepted = |source: &IpAddr| match ssh_from {
        // The operator may work on a machine of the fleet.
        SshFrom::Here => sources.contains(&operator),
        SshFrom::Networks(networks) => networks.iter().any(|network| network.contains(*source)),
        SshFrom::Anywhere => true,
    };
    match sources.iter().filter(|source| accepted(source)).count() {
        0 => Expected::Closed,
        all if all == sources.len() => Expected::Open,
        _ => Expected::Any,
    }
}

/// The expected result of a connection attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// It connects.
    Open,
    /// It connects, or is refused: the port of the next release has no listener yet.
    OpenOrRefused,
    /// It is dropped.
    Closed,
    /// Either: it is the operator's ssh, at another address than ssh uses.
    Any,
}

/// Whether a result is an expected one. Without a route from where the operator is, nothing was tested; between machines
/// an edge needs one.
fn passes(expected: Expected, reached: &Reachability, is_operator: bool) -> bool {
    match (expected, reached) {
        (Expected::Any, _)
        | (Expected::OpenOrRefused, Reachability::Refused)
        | (Expected::Open | Expected::OpenOrRefused, Reachability::Open) => true,
        (Expected::Open | Expected::OpenOrRefused, Reachability::NoRoute) => is_operator,
        (Expected::Open | Expected::OpenOrRefused, _) => false,
        (Expected::Closed, reached) => !matches!(reached, Reachability::Open | Reachability::Refused),
    }
}

/// The result that the topology's edges let expect; `route` is that of the operator's ssh.
fn expected(
    fleet: &Fleet<'_>,
    from: Option<&Member<'_>>,
    to: &Member<'_>,
    route: &SshRoute,
    address: SocketAddr,
) -> Expected {
    // ssh: from the source of the operator's connections, which may be a machine of the fleet.
    let (operator, ssh) = to.system.operator;
    if address.port() == ssh {
        let Some(from) = from else {
            let is_used = route.is_direct && route.addresses.contains(&address.ip());
            return if is_used { Expected::Open } else { Expected::Any };
        };
        let own = from.system.addresses.iter().chain([&from.machine.address]);
        let sources: Vec<IpAddr> = own.copied().filter(|it| it.is_ipv4() == address.is_ipv4()).collect();
        return ssh_between(fleet.topology.ssh_from(), operator, &sources);
    }
    let edges = fleet.topology.edges();
    let edge = edges.iter().find(|edge| {
        let public = matches!(edge.from, End::Internet)
            && (edge.address == address.ip()
                || edge.address.is_unspecified() && edge.address.is_ipv4() == address.is_ipv4());
        let private = matches!(edge.from, End::Part(_, machine) if from.is_some_and(|it| it.machine.name == machine.name))
            && edge.address == address.ip();
        edge.machine.name == to.machine.name && edge.port == address.port() && (public || private)
    });
    match edge {
        Some(edge) if edge.to.standby.is_some() => Expected::OpenOrRefused,
        Some(_) => Expected::Open,
        None => Expected::Closed,
    }
}

/// A result as it is shown.
fn outcome(reached: &Reachability) -> String {
    match reached {
        Reachability::Open => "open".to_owned(),
        Reachability::Privileged => "open, and the role is privileged".to_owned(),
        Reachability::Refused => "connection refused".to_owned(),
        Reachability::TimedOut => "timed out".to_owned(),
        Reachability::NoRoute => "no route from here".to_owned(),
        Reachability::Prohibited => "prohibited here".to_owned(),
        Reachability::Rejected(why) => format!("rejected: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_in_a_network_of_ssh_from_may_connect_to_sshd() {
        let address = |last: u8| IpAddr::from([10, 0, 0, last]);
        let public = IpAddr::from([203, 0, 113, 7]);
        let networks = SshFrom::Networks(vec!["10.0.0.0/24".parse().unwrap()]);
        for (from, sources, expected) in [
            (&SshFrom::Here, vec![address(1)], Expected::Closed),
            (&SshFrom::Here, vec![address(5)], Expected::Open),
            (&networks, vec![address(1)], Expected::Open),
            (&networks, vec![address(1), public], Expected::Any),
            (&networks, vec![public], Expected::Closed),
            (&networks, vec![], Expected::Closed),
            (&SshFrom::Anywhere, vec![public], Expected::Open),
        ] {
            assert_eq!(ssh_between(from, address(5), &sources), expected, "{from:?} {sources:?}");
        }
    }

    #[test]
    fn no_route_proves_nothing_where_the_operator_is_and_fails_an_edge_between_machines() {
        use Expected::{Any, Closed, Open, OpenOrRefused};
        use Reachability::{NoRoute, Open as Connected, Refused, TimedOut};
        for (expected, reached, operator, machine) in [
            (Open, Connected, true, true),
            (Open, Refused, false, false),
            (Open, TimedOut, false, false),
            (Open, NoRoute, true, false),
            (OpenOrRefused, Refused, true, true),
            (OpenOrRefused, TimedOut, false, false),
            (Closed, Connected, false, false),
            (Closed, Refused, false, false),
            (Closed, TimedOut, true, true),
            (Closed, NoRoute, true, true),
            (Any, Connected, true, true),
            (Any, TimedOut, true, true),
        ] {
            assert_eq!(passes(expected, &reached, true), operator, "{expected:?} {reached:?}, operator");
            assert_eq!(passes(expected, &reached, false), machine, "{expected:?} {reached:?}, machine");
        }
    }
}
