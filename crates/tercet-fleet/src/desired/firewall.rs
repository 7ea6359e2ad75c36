//! A machine's firewall rules: the edges that end on it, ssh from where the operator comes from, and what its tiers may open.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::Result;
use tercet_config::{ALERTMANAGER, End, Machine, SshFrom, Topology};
use tercet_machine::firewall::Firewall;

use super::egress::{self, destination, family};
use super::project::Project;
use super::temporary_edge::TemporaryEdge;
use crate::monitor::MONITOR_ACCOUNT;
use crate::system::{BRIDGES, System};

/// Seconds until the old rules return when no new ssh connection confirms the new ones.
const REVERT_SECONDS: u32 = 60;

/// What every machine lets in: answers, itself, what IP itself needs (RFC 4890), its own address by DHCP.
const ALWAYS: &str = "\
\t\tct state established,related accept
\t\tct state invalid drop
\t\tiif lo accept
\t\ticmp type { destination-unreachable, echo-request, time-exceeded, parameter-problem } accept
\t\ticmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem, echo-request } accept
\t\ticmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept
\t\tip6 saddr fe80::/10 icmpv6 type { mld-listener-query, mld-listener-report, mld-listener-done, mld2-listener-report } accept
\t\tudp sport 67 udp dport 68 accept
\t\tip6 saddr fe80::/10 udp sport 547 udp dport 546 accept
";

/// The rules of `machine`, at which some of the `temporary` edges begin or end.
///
/// # Errors
/// As [`egress::of`].
pub(super) fn of(
    project: &Project<'_>,
    machine: &Machine,
    system: &System,
    temporary: &[TemporaryEdge],
) -> Result<Firewall> {
    let topology = project.topology;
    let ending: Vec<_> = temporary.iter().filter(|edge| edge.to.0 == machine.name).collect();
    let beginning: Vec<_> = temporary.iter().filter(|edge| edge.from.0 == machine.name).collect();
    let mut rules =
        String::from("\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n");
    rules += ALWAYS;
    let (operator, port) = system.operator;
    let sources = match topology.ssh_from() {
        SshFrom::Here => vec![source(operator) + " "],
        SshFrom::Networks(networks) => networks
            .iter()
            .map(|it| format!("{} saddr {it} ", if it.is_ipv4() { "ip" } else { "ip6" }))
            .collect(),
        SshFrom::Anywhere => vec![String::new()],
    };
    for source in sources {
        writeln!(rules, "\t\t{source}tcp dport {port} accept comment \"ssh of the operator\"")
            .expect("writing to a String cannot fail");
    }
    for line in openings(topology, machine, &ending) {
        rules += &line;
    }
    rules += "\t}\n";
    rules += &forwarding();
    rules += &egress::chain(project, machine, &beginning)?;
    rules += &alertmanager(topology, machine).unwrap_or_default();
    Ok(Firewall { rules, revert_seconds: REVERT_SECONDS })
}

/// What the machine forwards is left alone, but for connections from outside that another table translates (a container's
/// published port): no edge allows them, and they do not pass the chain `input`.
fn forwarding() -> String {
    let mut rules = String::from(
        "\tchain forward {\n\t\ttype filter hook forward priority filter; policy accept;\n\t\tct state established,related accept\n",
    );
    for bridge in BRIDGES {
        writeln!(rules, "\t\tiifname \"{bridge}*\" accept").expect("writing to a String cannot fail");
    }
    rules + "\t\tct status dnat drop\n\t}\n"
}

/// On the monitor's machine, Alertmanager answers root and Prometheus alone: its API shows the addresses of receivers, and silences
/// alerts, without a login.
fn alertmanager(topology: &Topology, machine: &Machine) -> Option<String> {
    let part = topology.part(ALERTMANAGER).filter(|part| topology.machine_of(part).name == machine.name)?;
    Some(format!(
        "\tchain alertmanager {{\n\t\ttype filter hook output priority filter; policy accept;\n\
         \t\toif lo tcp dport {} meta skuid != {{ 0, \"{MONITOR_ACCOUNT}\" }} reject with tcp reset\n\t}}\n",
        part.port.number
    ))
}

/// A line for each edge from another machine, each once, in the order of the topology.
fn openings(topology: &Topology, machine: &Machine, temporary: &[&TemporaryEdge]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let edges = topology.edges();
    let arriving = edges.iter().filter(|edge| edge.machine.name == machine.name && !edge.is_local());
    let lasting = arriving.map(|edge| {
        let (from, who) = match edge.from {
            End::Internet if edge.address.is_unspecified() => (
                format!("meta nfproto {}", if edge.address.is_ipv4() { "ipv4" } else { "ipv6" }),
                "the internet",
            ),
            End::Internet => (destination(edge.address), "the internet"),
            End::OwnPrometheus(from) => {
                (format!("{} {}", source(from), destination(edge.address)), "your Prometheus")
            }
            End::Part(_, from) => {
                (format!("{} {}", source(from.address), destination(edge.address)), from.name.as_str())
            }
        };
        (format!("{from} tcp dport {}", edge.port), format!("{who} to {}", edge.to.name))
    });
    let temporary = temporary.iter().map(|edge| {
        let (name, address) = &edge.from;
        let rule = format!("{} {} tcp dport {}", source(*address), destination(machine.address), edge.port);
        (rule, format!("{name}, which leaves"))
    });
    lasting
        .chain(temporary)
        .filter(|(rule, _)| seen.insert(rule.clone()))
        .map(|(rule, comment)| format!("\t\t{rule} accept comment \"{comment}\"\n"))
        .collect()
}

fn source(address: IpAddr) -> String {
    format!("{} saddr {address}", family(address))
}
