//! The machines of the file and their tiers.

use std::net::IpAddr;

use crate::file::{self, File, Located};
use crate::topology::{Machine, Reach, Tier, names, network};
use tercet_options::Mistakes;

/// The machines, checked against each other.
pub(super) struct Placement {
    pub(super) machines: Vec<Machine>,
    /// Whether the file names them; otherwise there is only this machine.
    pub(super) named: bool,
}

impl Placement {
    pub(super) fn read(file: &File, mistakes: &mut Mistakes) -> Self {
        if file.machine.is_empty() {
            let mut machine = Machine::this();
            if file.database.url.is_some() {
                machine.tiers.retain(|tier| *tier != Tier::Database);
            }
            return Self { machines: vec![machine], named: false };
        }
        let machines: Vec<Machine> = file.machine.iter().map(|entry| machine(entry, mistakes)).collect();
        unique(file, mistakes);
        one_family(file, &machines, mistakes);
        tiers_once(file, mistakes);
        Self { machines, named: true }
    }

    /// The indices of the machines that carry a tier.
    pub(super) fn carrying(&self, tier: Tier) -> impl Iterator<Item = usize> {
        let machines = self.machines.iter().enumerate();
        machines.filter(move |(_, machine)| machine.tiers.contains(&tier)).map(|(index, _)| index)
    }
}

fn machine(entry: &Located<file::Machine>, mistakes: &mut Mistakes) -> Machine {
    let keys = [
        ("name", entry.name.is_none()),
        ("ssh", entry.ssh.is_none()),
        ("address", entry.address.is_none()),
        ("tiers", entry.tiers.is_none()),
    ];
    let missing: Vec<&str> = keys.iter().filter(|(_, missing)| *missing).map(|(key, _)| *key).collect();
    if !missing.is_empty() {
        mistakes.add(entry.span(), format!("this machine has no {}", missing.join(", ")), "incomplete");
    }
    if let Some(name) = entry.name.as_ref().filter(|name| !names::is_name(name)) {
        let message = format!("{:?} can't be the name of a machine", **name);
        mistakes.add(name.span(), message, "not a name").hint(names::RULE);
    }
    if let Some(ssh) = &entry.ssh
        // ssh would take a destination that begins with `-` as an option.
        && (ssh.is_empty() || ssh.starts_with('-') || ssh.contains(|c: char| c.is_whitespace() || c.is_control()))
    {
        let message = format!("{:?} is no ssh destination", **ssh);
        mistakes.add(ssh.span(), message, "not a destination").hint("write it like root@203.0.113.10");
    }
    let mut tiers: Vec<Tier> = entry.tiers.iter().flat_map(|tiers| tiers.iter()).map(tier).collect();
    if let Some(list) = entry.tiers.as_ref().filter(|list| list.is_empty()) {
        mistakes
            .add(list.span(), "this machine carries no tier", "nothing")
            .hint("one or more of balancer, application, database, backup, monitor");
    }
    for listed in entry.tiers.iter().flat_map(|tiers| twice(tiers)) {
        mistakes.add(listed.span(), format!("the {} is listed twice", tier(listed)), "again");
    }
    tiers.sort_unstable();
    tiers.dedup();
    Machine {
        name: entry.name.as_ref().map(|name| name.to_string()).unwrap_or_default(),
        reach: Reach::Ssh(entry.ssh.as_ref().map(|ssh| ssh.to_string()).unwrap_or_default()),
        address: entry
            .address
            .as_ref()
            .and_then(|text| address(text, mistakes))
            .unwrap_or([0, 0, 0, 0].into()),
        tiers,
    }
}

/// The entries that repeat an earlier one.
fn twice(tiers: &[Located<file::Tier>]) -> impl Iterator<Item = &Located<file::Tier>> {
    let indexed = tiers.iter().enumerate();
    indexed
        .filter(|(index, second)| tiers[..*index].iter().any(|first| **first == ***second))
        .map(|(_, tier)| tier)
}

pub(super) fn tier(tier: &Located<file::Tier>) -> Tier {
    match **tier {
        file::Tier::Balancer => Tier::Balancer,
        file::Tier::Application => Tier::Application,
        file::Tier::Database => Tier::Database,
        file::Tier::Backup => Tier::Backup,
        file::Tier::Monitor => Tier::Monitor,
    }
}

fn address(text: &Located<String>, mistakes: &mut Mistakes) -> Option<IpAddr> {
    let Ok(address) = text.parse::<IpAddr>() else {
        mistakes
            .add(text.span(), format!("{:?} is no IP address", **text), "not an address")
            .hint("write the machine's private address, like 10.0.0.10");
        return None;
    };
    if !network::is_private(address) {
        mistakes
            .add(text.span(), format!("{address} is not a private address"), "not private")
            .hint("the tiers talk over a private network: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10 or fc00::/7");
    }
    Some(address)
}

/// Reports addresses of both families: a machine with one cannot connect to one with the other.
fn one_family(file: &File, machines: &[Machine], mistakes: &mut Mistakes) {
    let written = || file.machine.iter().filter_map(|entry| entry.address.as_ref()).zip(machines);
    let Some((first, machine)) = written().next() else { return };
    let is_other =
        |it: &&Machine| it.address.is_ipv4() != machine.address.is_ipv4() && !it.address.is_unspecified();
    if let Some((second, _)) = written().find(|(_, it)| is_other(it)) {
        mistakes
            .add(second.span(), "the machines have addresses of both IPv4 and IPv6", "another family")
            .and(first.span(), "the first")
            .hint("write the private addresses of one family");
    }
}

/// Reports machines that share a name, a destination or an address.
fn unique(file: &File, mistakes: &mut Mistakes) {
    for key in ["name", "ssh", "address"] {
        let value = |machine: &'_ Located<file::Machine>| match key {
            "name" => machine.name.clone(),
            "ssh" => machine.ssh.clone(),
            _ => machine.address.clone(),
        };
        let values: Vec<Located<String>> = file.machine.iter().filter_map(value).collect();
        for (index, second) in values.iter().enumerate() {
            if let Some(first) = values[..index].iter().find(|first| first.as_str() == second.as_str()) {
                mistakes
                    .add(second.span(), format!("two machines have the {key} {:?}", **second), "again")
                    .and(first.span(), "first");
            }
        }
    }
}

/// Reports a topology without exactly one balancer, an application server, and one database or the URL of one.
fn tiers_once(file: &File, mistakes: &mut Mistakes) {
    let carriers = |wanted: Tier| {
        let lists = file.machine.iter().filter_map(|machine| machine.tiers.as_ref());
        lists.filter_map(|list| list.iter().find(|listed| tier(listed) == wanted)).collect::<Vec<_>>()
    };
    let last = file.machine.last().map(Located::span).unwrap_or_default();
    for wanted in [Tier::Balancer, Tier::Database, Tier::Backup, Tier::Monitor] {
        if let [first, .., second] = carriers(wanted)[..] {
            mistakes
                .add(second.span(), format!("only one machine can carry the {wanted}"), "again")
                .and(first.span(), "first");
        }
    }
    for wanted in [Tier::Balancer, Tier::Application] {
        if carriers(wanted).is_empty() {
            mistakes
                .add(last.clone(), format!("no machine carries the {wanted}"), "none up to here")
                .hint(format!("add \"{wanted}\" to a machine's tiers"));
        }
    }
    match (&file.database.url, carriers(Tier::Database).first()) {
        (Some(url), Some(carrier)) => {
            mistakes
                .add(carrier.span(), "a machine carries the database, and url names another", "tercet's own")
                .and(url.span(), "the other one")
                .hint("keep one of the two");
        }
        (None, None) => {
            mistakes
                .add(last, "no machine carries the database", "none up to here")
                .hint("add \"database\" to a machine's tiers, or name an existing one by url in [database]");
        }
        _ => {}
    }
}
