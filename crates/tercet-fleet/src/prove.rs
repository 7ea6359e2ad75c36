//! The claims "only necessary ports are open" and "only application machines reach the database", tried.
//!
//! From every vantage point (where the operator is, and each machine) to every address of every machine: the
//! ports of the topology and other common ones. Arrows must connect, everything else must not get an answer.
//! PostgreSQL is tried without TLS, without a certificate, with a wrong password, as other roles.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use anyhow::Result;
use serde::Serialize;
use tercet_config::{End, Tier};
use tercet_database::roles::{AUTHENTICATOR, owner};

use crate::agent::{Query, Reply};
use crate::at_once::at_once;
use crate::attempt::{DatabaseAttempt, Means, Reached, connect_all};
use crate::desired::credentials_folder;
use crate::fleet::{Fleet, Member, unexpected};

/// Ports that are often open by mistake, tried on every machine besides those of the topology.
const COMMON: &[u16] = &[
    21, 22, 23, 25, 53, 80, 111, 139, 443, 445, 631, 873, 2049, 2375, 2379, 3000, 3306, 3389, 5000, 5432,
    5433, 5984, 6379, 6443, 8000, 8080, 8081, 8082, 8443, 8888, 9000, 9090, 9100, 9200, 10250, 11211, 15672,
    27017,
];

/// One attempt and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Where it was made from: `operator`, or a machine's name.
    pub from: String,
    /// The machine it went to.
    pub to: String,
    /// Address and port.
    pub address: SocketAddr,
    /// What was tried: `tcp`, or `postgres` and how.
    pub what: String,
    /// Whether the picture has it.
    pub drawn: bool,
    /// What came of it.
    pub outcome: String,
    /// Whether it is as drawn.
    pub passed: bool,
    /// What should have allowed or stopped it; for what is not as drawn.
    pub rule: Option<String>,
}

/// Tries everything.
///
/// # Errors
/// A machine cannot be reached to try from.
pub fn prove(fleet: &Fleet<'_>) -> Result<Vec<Trial>> {
    let targets = targets(fleet)?;
    let mut vantages: Vec<Option<&Member<'_>>> = vec![None];
    vantages.extend(fleet.machines.iter().map(Some));
    let mut trials: Vec<Trial> = at_once(&vantages, |from| network(fleet, *from, &targets))?.concat();
    let applications: Vec<&Member<'_>> =
        fleet.machines.iter().filter(|member| member.machine.tiers.contains(&Tier::Application)).collect();
    trials.extend(at_once(&applications, |member| database(fleet, member))?.concat());
    Ok(trials)
}

/// Every address of every machine with the ports to try there: the machine's place in the fleet.
fn targets(fleet: &Fleet<'_>) -> Result<Vec<(usize, SocketAddr)>> {
    let edges = fleet.topology.edges();
    let mut targets = Vec::new();
    for (place, member) in fleet.machines.iter().enumerate() {
        let mut ports: BTreeSet<u16> = COMMON.iter().copied().collect();
        ports.extend(edges.iter().map(|edge| edge.port));
        ports.insert(member.system.operator.1);
        let mut addresses: BTreeSet<IpAddr> = member.system.addresses.iter().copied().collect();
        addresses.insert(member.machine.address);
        // What ssh connects to may be a public address that the machine itself does not know (behind NAT).
        let host = member.remote.host()?;
        addresses
            .extend((host.as_str(), 0).to_socket_addrs().into_iter().flatten().map(|address| address.ip()));
        for address in addresses {
            targets.extend(ports.iter().map(|port| (place, SocketAddr::new(address, *port))));
        }
    }
    Ok(targets)
}

/// What one vantage point reaches. A machine does not try itself: its own loopback is no firewall's business.
fn network(
    fleet: &Fleet<'_>,
    from: Option<&Member<'_>>,
    targets: &[(usize, SocketAddr)],
) -> Result<Vec<Trial>> {
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
    let trials = others.into_iter().zip(reached).map(|((place, address), reached)| {
        let to = &fleet.machines[place];
        let drawn = drawn(fleet, from, to, address);
        let passed = match reached {
            Reached::Open => drawn,
            // Let through, and refused: the port of the next release, which has no listener yet.
            Reached::Refused => drawn && fleet.topology.parts().iter().any(|part| part.ports().len() > 1),
            _ => !drawn,
        };
        let rule = (!passed).then(|| {
            let name = &to.machine.name;
            if drawn {
                format!("{name}: a rule of chain input, table inet tercet, must let this in, and something must listen")
            } else {
                format!("{name}: the policy of chain input, table inet tercet, must drop this")
            }
        });
        Trial {
            from: from.map_or("operator", |member| &member.machine.name).to_owned(),
            to: to.machine.name.clone(),
            address,
            what: "tcp".to_owned(),
            drawn,
            outcome: outcome(&reached),
            passed,
            rule,
        }
    });
    Ok(trials.collect())
}

/// Whether the picture has an edge from there to here.
fn drawn(fleet: &Fleet<'_>, from: Option<&Member<'_>>, to: &Member<'_>, address: SocketAddr) -> bool {
    // ssh: from where the operator's connections come from, be that a machine of the fleet.
    let (operator, ssh) = to.system.operator;
    if address.port() == ssh {
        return address.is_ipv4() == operator.is_ipv4()
            && from.is_none_or(|from| {
                from.system.addresses.contains(&operator) || from.machine.address == operator
            });
    }
    fleet.topology.edges().iter().any(|edge| {
        let public = matches!(edge.from, End::Internet)
            && (edge.address == address.ip()
                || edge.address.is_unspecified() && edge.address.is_ipv4() == address.is_ipv4());
        let private = matches!(edge.from, End::Part(_, machine) if from.is_some_and(|it| it.machine.name == machine.name))
            && edge.address == address.ip();
        edge.machine.name == to.machine.name && edge.port == address.port() && (public || private)
    })
}

/// Who gets into PostgreSQL from an application machine.
fn database(fleet: &Fleet<'_>, member: &Member<'_>) -> Result<Vec<Trial>> {
    let edges = fleet.topology.edges();
    let edge = edges.iter().find(|edge| {
        edge.to.tier == Tier::Database
            && matches!(edge.from, End::Part(_, from) if from.name == member.machine.name)
    });
    let Some(edge) = edge else { return Ok(Vec::new()) };
    let name = fleet.topology.name();
    let address = SocketAddr::new(edge.address, edge.port);
    let local = edge.is_local();
    let owner = owner(name);
    let mut cases = vec![
        (AUTHENTICATOR, name, Means::Everything, "authenticator, as an application server", true),
        (AUTHENTICATOR, name, Means::WrongPassword, "authenticator with a wrong password", false),
        (AUTHENTICATOR, "postgres", Means::Everything, "authenticator in another database", false),
        (owner.as_str(), name, Means::Everything, "the owner over the network", false),
        ("postgres", "postgres", Means::Everything, "the superuser over the network", false),
    ];
    if !local {
        cases.extend([
            (AUTHENTICATOR, name, Means::NoTls, "authenticator without TLS", false),
            (AUTHENTICATOR, name, Means::NoCertificate, "authenticator without a certificate", false),
            ("postgres", "postgres", Means::NoTls, "the superuser without TLS", false),
        ]);
    }
    // While the password is replaced, none is asked for over TLS.
    if !local && fleet.project()?.secrets.certificate_alone {
        cases.retain(|(_, _, with, ..)| *with != Means::WrongPassword);
    }
    let attempts = cases
        .iter()
        .map(|(role, database, with, ..)| DatabaseAttempt {
            address,
            local,
            database: (*database).to_owned(),
            role: (*role).to_owned(),
            with: *with,
        })
        .collect();
    let credentials = credentials_folder(&fleet.project()?, member.machine);
    let Reply::Tried(reached) = fleet.agent(member).ask(Query::TryDatabase { attempts, credentials })? else {
        return Err(unexpected(&member.machine.name));
    };
    let trials = cases.iter().zip(reached).map(|((_, _, _, what, drawn), reached)| {
        let passed = (reached == Reached::Open) == *drawn;
        let rule = (!passed).then(|| {
            format!(
                "{}: pg_hba.conf {} let this in",
                edge.machine.name,
                if *drawn { "must" } else { "must not" }
            )
        });
        Trial {
            from: member.machine.name.clone(),
            to: edge.machine.name.clone(),
            address,
            what: format!("postgres: {what}"),
            drawn: *drawn,
            outcome: outcome(&reached),
            passed,
            rule,
        }
    });
    Ok(trials.collect())
}

fn outcome(reached: &Reached) -> String {
    match reached {
        Reached::Open => "open".to_owned(),
        Reached::Refused => "connection refused".to_owned(),
        Reached::Silent => "no answer".to_owned(),
        Reached::Rejected(why) => format!("rejected: {why}"),
    }
}
