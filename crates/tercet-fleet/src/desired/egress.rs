//! The connections that a machine lets out: the processes of a tier have an account, which opens the edges that begin at the tier,
//! and what the topology allows besides. Other accounts of the machine, such as those of apt or of the user's own services, are
//! not limited.

use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::Result;
use tercet_config::{Destination, Egress, End, Machine, Tier};
use tercet_postgres::Host;

use super::project::Project;
use super::temporary_edge::TemporaryEdge;
use crate::backup::settings::ACCOUNT;
use crate::instance;
use crate::monitor::MONITOR_ACCOUNT;

/// What a limited account may do in any case: answer, and reach its own machine.
const ALWAYS: &str = "\t\tct state established,related accept\n\t\toif lo accept\n";

/// The account of a tier's processes.
pub(crate) fn account(tier: Tier) -> &'static str {
    match tier {
        Tier::Balancer => "tercet-balancer",
        Tier::Application => instance::ACCOUNT,
        Tier::Database | Tier::Backup => ACCOUNT,
        Tier::Monitor => MONITOR_ACCOUNT,
    }
}

/// What the processes of a tier may connect to besides edges, an existing database included.
///
/// # Errors
/// The existing database's URL cannot be parsed, so its ports are unknown.
pub(crate) fn of(project: &Project<'_>, tier: Tier) -> Result<Egress> {
    let egress = project.topology.egress(tier);
    let (Egress::Only(mut destinations), Tier::Application) = (egress.clone(), tier) else {
        return Ok(egress);
    };
    for application in project.topology.applications() {
        let target = project.existing_database(application.name.as_deref())?;
        for host in target.into_iter().flat_map(|target| target.hosts) {
            if let Host::Tcp { port, .. } = host
                && !destinations.contains(&Destination::port(port))
            {
                destinations.push(Destination::port(port));
            }
        }
    }
    Ok(Egress::Only(destinations))
}

/// The chain of `machine`, from which the `temporary` edges begin.
///
/// # Errors
/// As [`of`].
pub(super) fn chain(
    project: &Project<'_>,
    machine: &Machine,
    temporary: &[&TemporaryEdge],
) -> Result<String> {
    let mut chain =
        String::from("\tchain output {\n\t\ttype filter hook output priority filter; policy accept;\n");
    chain += ALWAYS;
    for tier in &machine.tiers {
        let Egress::Only(destinations) = of(project, *tier)? else { continue };
        let mut lines: Vec<(String, String)> = edges(project, machine, *tier);
        let of_tier = temporary.iter().filter(|edge| edge.client == *tier);
        lines.extend(of_tier.map(|edge| (to(edge.to.1, edge.port), format!("{}, for now", edge.to.0))));
        if !destinations.is_empty() {
            lines.push(("meta l4proto { tcp, udp } th dport 53".to_owned(), "name servers".to_owned()));
        }
        lines.extend(destinations.iter().map(|it| (rule(it), it.to_string())));
        let account = account(*tier);
        let mut seen = Vec::new();
        for (rule, comment) in lines {
            if !seen.contains(&rule) {
                writeln!(chain, "\t\tmeta skuid \"{account}\" {rule} accept comment \"{tier} to {comment}\"")
                    .expect("writing to a String cannot fail");
                seen.push(rule);
            }
        }
        writeln!(
            chain,
            "\t\tmeta skuid \"{account}\" reject with icmpx admin-prohibited comment \"{tier} to anything else\""
        )
        .expect("writing to a String cannot fail");
    }
    Ok(chain + "\t}\n")
}

/// The edges from a tier of a machine to other machines.
fn edges(project: &Project<'_>, machine: &Machine, tier: Tier) -> Vec<(String, String)> {
    let edges = project.topology.edges();
    let from = edges.iter().filter(|edge| {
        let begins =
            |end: End<'_>| matches!(end, End::Part(part, on) if part.tier == tier && on.name == machine.name);
        begins(edge.from) && !edge.is_local()
    });
    from.map(|edge| (to(edge.address, edge.port), edge.to.name.clone())).collect()
}

fn to(address: IpAddr, port: u16) -> String {
    format!("{} tcp dport {port}", destination(address))
}

fn rule(destination: &Destination) -> String {
    let network = destination.network.map(|network| {
        let family = if network.is_ipv4() { "ip" } else { "ip6" };
        format!("{family} daddr {network}")
    });
    let port = destination.port.map(|port| format!("tcp dport {port}"));
    network.into_iter().chain(port).collect::<Vec<_>>().join(" ")
}

/// A rule's condition: the address that a connection goes to.
pub(super) fn destination(address: IpAddr) -> String {
    format!("{} daddr {address}", family(address))
}

/// The family of an address, as nft names it.
pub(super) fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}
