//! Tests that only the topology's edges accept connections, and that only application machines reach the database.
//!
//! From every vantage point (where the operator is, and each machine) to every address of every machine: the
//! ports of the topology and other common ones. Edges must connect, all others must be dropped.
//! Logins to PostgreSQL are attempted without TLS, without a certificate, with a wrong password, as other roles.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use anyhow::Result;
use serde::Serialize;
use tercet_config::{End, Protocol, Tier};
use tercet_database::roles::{AUTHENTICATOR, owner};

use crate::agent::{Query, Reply};
use crate::at_once::at_once;
use crate::desired::credentials_folder;
use crate::fleet::{Fleet, Member, unexpected};
use crate::reachability::{DatabaseLogin, LoginMeans, Reachability, connect_all};
use crate::ssh::Route;

/// Ports that are often open by mistake, checked on every machine besides those of the topology.
const COMMON: &[u16] = &[
    21, 22, 23, 25, 53, 80, 111, 139, 443, 445, 631, 873, 2049, 2375, 2379, 3000, 3306, 3389, 5000, 5432,
    5433, 5984, 6379, 6443, 8000, 8080, 8081, 8082, 8443, 8888, 9000, 9090, 9100, 9200, 10250, 11211, 15672,
    27017,
];

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
    /// The rule that should have allowed or stopped it, for an unexpected result.
    pub rule: Option<String>,
}

/// Makes all checks.
///
/// # Errors
/// A machine that should make attempts cannot be reached.
pub fn prove(fleet: &Fleet<'_>) -> Result<Vec<Check>> {
    let routes = at_once(&fleet.machines, SshRoute::of)?;
    let targets = targets(fleet, &routes);
    let mut vantages: Vec<Option<&Member<'_>>> = vec![None];
    vantages.extend(fleet.machines.iter().map(Some));
    let mut checks: Vec<Check> =
        at_once(&vantages, |from| network(fleet, *from, &routes, &targets))?.concat();
    let applications: Vec<&Member<'_>> =
        fleet.machines.iter().filter(|member| member.machine.tiers.contains(&Tier::Application)).collect();
    checks.extend(at_once(&applications, |member| database(fleet, member))?.concat());
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
fn targets(fleet: &Fleet<'_>, routes: &[SshRoute]) -> Vec<(usize, SocketAddr)> {
    let edges = fleet.topology.edges();
    let mut targets = Vec::new();
    for (place, (member, route)) in fleet.machines.iter().zip(routes).enumerate() {
        let mut ports: BTreeSet<u16> = COMMON.iter().copied().collect();
        ports.extend(edges.iter().map(|edge| edge.port));
        ports.insert(member.system.operator.1);
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
) -> Result<Vec<Check>> {
    let others: Vec<(usize, SocketAddr)> = targets
        .iter()
        .filter(|(place, _)| from.is_none_or(|from| fleet.machines[*place].machine.name != from.machine.name))
        .copied()
        .collect();
    let addresses: Vec<SocketAddr> = others.iter().map(|(_, address)| *address).collect();
    let reached = match from {
        None => connect_all(&addresses),
        Some(member) => match fleet.agent(member).ask(Query::Connect { targets: addresses })? {
            Reply::Connected(reached) => reached,
            _ => return Err(unexpected(&member.machine.name)),
        },
    };
    let checks = others.into_iter().zip(reached).map(|((place, address), reached)| {
        let to = &fleet.machines[place];
        let expected = expected(fleet, from, to, &routes[place], address);
        let passed = passes(expected, &reached, from.is_none());
        let rule = (!passed).then(|| rule(fleet, from, to, address, expected, &reached));
        Check {
            from: from.map_or("operator", |member| &member.machine.name).to_owned(),
            to: to.machine.name.clone(),
            address,
            what: "tcp".to_owned(),
            allowed: matches!(expected, Expected::Open | Expected::OpenOrRefused),
            outcome: outcome(&reached),
            tried: reached != Reachability::NoRoute,
            passed,
            rule,
        }
    });
    Ok(checks.collect())
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

/// What decides an unexpected result, and where to look.
fn rule(
    fleet: &Fleet<'_>,
    from: Option<&Member<'_>>,
    to: &Member<'_>,
    address: SocketAddr,
    expected: Expected,
    reached: &Reachability,
) -> String {
    let name = &to.machine.name;
    match (expected, reached) {
        (Expected::Closed, _) => {
            format!(
                "{name}: the policy of chain input, table inet tercet, must drop this: `nft list table inet tercet` there"
            )
        }
        (_, Reachability::NoRoute) => {
            let from = from.map_or("the operator", |it| &it.machine.name);
            format!(
                "{from}: there is no route to {}: look at `ip route get {}` there",
                address.ip(),
                address.ip()
            )
        }
        (_, Reachability::Refused) => {
            let edges = fleet.topology.edges();
            let part = edges.iter().find(|edge| edge.machine.name == *name && edge.port == address.port());
            let part = part.map_or("a process", |edge| edge.to.name.as_str());
            format!("{name}: the firewall accepts this, and {part} does not listen: look at `tercet status`")
        }
        _ => format!(
            "{name}: a rule of chain input, table inet tercet, must accept this: `nft list table inet tercet` there; another \
             table, or a firewall in between, may drop it"
        ),
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
        let is_operator = from.system.addresses.contains(&operator) || from.machine.address == operator;
        let is_open = is_operator && address.is_ipv4() == operator.is_ipv4();
        return if is_open { Expected::Open } else { Expected::Closed };
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

/// The login attempts from an application machine.
fn database(fleet: &Fleet<'_>, member: &Member<'_>) -> Result<Vec<Check>> {
    let edges = fleet.topology.edges();
    let edge = edges.iter().find(|edge| {
        edge.protocol == Protocol::Postgres
            && matches!(edge.from, End::Part(_, from) if from.name == member.machine.name)
    });
    let Some(edge) = edge else { return Ok(Vec::new()) };
    let name = fleet.topology.name();
    let address = SocketAddr::new(edge.address, edge.port);
    let local = edge.is_local();
    let owner = owner(name);
    let mut cases = vec![
        (AUTHENTICATOR, name, LoginMeans::Everything, "authenticator, as an application server", true),
        (AUTHENTICATOR, name, LoginMeans::WrongPassword, "authenticator with a wrong password", false),
        (AUTHENTICATOR, "postgres", LoginMeans::Everything, "authenticator in another database", false),
        (owner.as_str(), name, LoginMeans::Everything, "the owner over the network", false),
        ("postgres", "postgres", LoginMeans::Everything, "the superuser over the network", false),
    ];
    if !local {
        cases.extend([
            (AUTHENTICATOR, name, LoginMeans::NoTls, "authenticator without TLS", false),
            (AUTHENTICATOR, name, LoginMeans::NoCertificate, "authenticator without a certificate", false),
            ("postgres", "postgres", LoginMeans::NoTls, "the superuser without TLS", false),
        ]);
    }
    // While the password is replaced, none is required over TLS.
    if !local && fleet.project()?.secrets.certificate_alone {
        cases.retain(|(_, _, with, ..)| *with != LoginMeans::WrongPassword);
    }
    let logins = cases
        .iter()
        .map(|(role, database, with, ..)| DatabaseLogin {
            address,
            local,
            database: (*database).to_owned(),
            role: (*role).to_owned(),
            with: *with,
        })
        .collect();
    let credentials = credentials_folder(&fleet.project()?, member.machine);
    let Reply::Tried(reached) = fleet.agent(member).ask(Query::LogIn { logins, credentials })? else {
        return Err(unexpected(&member.machine.name));
    };
    let checks = cases.iter().zip(reached).map(|((_, _, _, what, allowed), reached)| {
        let passed = match reached {
            Reachability::Open => *allowed,
            Reachability::Privileged => false,
            _ => !allowed,
        };
        let rule = (!passed).then(|| match (allowed, &reached) {
            (true, Reachability::Privileged) => {
                format!(
                    "{}: the role must have no privileged attribute (superuser, createrole, …)",
                    edge.machine.name
                )
            }
            (true, _) => format!("{}: pg_hba.conf must accept this", edge.machine.name),
            (false, _) => format!("{}: pg_hba.conf must not accept this", edge.machine.name),
        });
        Check {
            from: member.machine.name.clone(),
            to: edge.machine.name.clone(),
            address,
            what: format!("postgres: {what}"),
            allowed: *allowed,
            outcome: outcome(&reached),
            tried: reached != Reachability::NoRoute,
            passed,
            rule,
        }
    });
    Ok(checks.collect())
}

fn outcome(reached: &Reachability) -> String {
    match reached {
        Reachability::Open => "open".to_owned(),
        Reachability::Privileged => "open, and the role is privileged".to_owned(),
        Reachability::Refused => "connection refused".to_owned(),
        Reachability::TimedOut => "timed out".to_owned(),
        Reachability::NoRoute => "no route from here".to_owned(),
        Reachability::Rejected(why) => format!("rejected: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
