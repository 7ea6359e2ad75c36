//! What stays open on a machine while others leave the project: their application servers finish their requests first.

use std::fmt::Write as _;
use std::net::IpAddr;

use tercet_config::{Machine, Tier};
use tercet_database::roles::AUTHENTICATOR;
use tercet_machine::Desired;
use tercet_machine::file::Contents;

use super::project::Project;

/// A connection that the topology no longer has and that is still used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Passage {
    /// Who connects: the machine's name and address.
    pub from: (String, IpAddr),
    /// The machine that is connected to.
    pub to: String,
    /// The tier there.
    pub tier: Tier,
    /// The TCP port.
    pub port: u16,
}

/// Adds to what `machine` should be the passages that end on it.
pub(crate) fn add(desired: &mut Desired, project: &Project<'_>, machine: &Machine, passages: &[Passage]) {
    let name = project.topology.name();
    for passage in passages.iter().filter(|passage| passage.to == machine.name) {
        let (from, address) = &passage.from;
        if let Some(firewall) = &mut desired.firewall {
            open(&mut firewall.rules, from, *address, machine.address, passage.port);
        }
        if passage.tier != Tier::Database {
            continue;
        }
        for file in &mut desired.files {
            let Contents::Text(text) = &mut file.contents else { continue };
            if file.path.ends_with("pg_hba.conf") {
                let length = if address.is_ipv4() { 32 } else { 128 };
                writeln!(
                    text,
                    "hostssl \"{name}\" {AUTHENTICATOR} {address}/{length} scram-sha-256 clientcert=verify-full"
                )
                .expect("writing to a String cannot fail");
            } else if file.path.ends_with("conf.d/tercet.conf") {
                listen(text, machine.address);
            }
        }
    }
}

/// Adds a rule to the chain of what comes in, unless the topology has it.
fn open(rules: &mut String, name: &str, from: IpAddr, to: IpAddr, port: u16) {
    let family = if from.is_ipv4() { "ip" } else { "ip6" };
    let rule = format!("{family} saddr {from} {family} daddr {to} tcp dport {port} accept");
    let Some(end) = rules.find("\t}\n\tchain forward").filter(|_| !rules.contains(&rule)) else { return };
    rules.insert_str(end, &format!("\t\t{rule} comment \"{name}, which leaves\"\n"));
}

/// Keeps an address among those PostgreSQL listens on.
fn listen(settings: &mut String, address: IpAddr) {
    let begin = "listen_addresses = '";
    let Some(start) = settings.find(begin).map(|at| at + begin.len()) else { return };
    let end = settings[start..].find('\'').map_or(start, |length| start + length);
    let address = address.to_string();
    let mut addresses: Vec<&str> = settings[start..end].split(", ").filter(|it| !it.is_empty()).collect();
    if !addresses.contains(&address.as_str()) {
        addresses.push(&address);
        addresses.sort_unstable();
        let all = addresses.join(", ");
        settings.replace_range(start..end, &all);
    }
}
