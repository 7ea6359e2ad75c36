//! What decides about a new TCP connection to this machine: an evaluation of the rules in force, as far as they name addresses and
//! ports. Reads a listing of nft(8), in which the rules of iptables, ufw, docker and firewalld are, too.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use tercet_machine::translation::is_translation;

/// A connection to this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// The client's address; without one, an address that no rule names.
    pub from: Option<IpAddr>,
    /// The address and port.
    pub to: SocketAddr,
}

/// The chains of a listing.
#[derive(Debug, Default)]
pub(crate) struct Ruleset {
    chains: BTreeMap<(String, String), Chain>,
}

#[derive(Debug, Default)]
struct Chain {
    /// The hook of a base chain.
    hook: Option<String>,
    policy_drops: bool,
    rules: Vec<String>,
}

/// What a chain does with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Accepted(String),
    Dropped(String),
    /// No rule that was understood decides.
    Continued,
}

/// tercet's table and its chain of arriving connections.
const TABLE: &str = "inet tercet";
const CHAIN: &str = "input";

/// How deep chains may lead to others.
const DEPTH: usize = 16;

impl Ruleset {
    /// Reads `nft -s list ruleset`.
    pub(crate) fn read(listing: &str) -> Self {
        let mut chains: BTreeMap<(String, String), Chain> = BTreeMap::new();
        let (mut table, mut chain) = (String::new(), None::<String>);
        for line in listing.lines() {
            let line = line.trim();
            let words: Vec<&str> = line.split_whitespace().collect();
            match &words[..] {
                ["table", family, name, "{"] => table = format!("{family} {name}"),
                ["chain", name, "{"] => {
                    chain = Some((*name).to_owned());
                    chains.entry((table.clone(), (*name).to_owned())).or_default();
                }
                ["}"] => chain = None,
                _ => {
                    let Some(name) = &chain else { continue };
                    let chain = chains.entry((table.clone(), name.clone())).or_default();
                    if words.first() == Some(&"type") {
                        let hook = words.iter().skip_while(|word| **word != "hook").nth(1);
                        chain.hook = hook.map(|hook| (*hook).to_owned());
                        chain.policy_drops = line.contains("policy drop");
                    } else if !line.is_empty() {
                        chain.rules.push(line.to_owned());
                    }
                }
            }
        }
        Self { chains }
    }

    /// The ports whose connections a rule translates, as far as they are named.
    pub(crate) fn translated_ports(&self) -> Vec<u16> {
        let rules = self.chains.values().flat_map(|chain| &chain.rules).filter(|rule| is_translation(rule));
        let ports = rules.filter_map(|rule| {
            let words: Vec<&str> = rule.split_whitespace().collect();
            let place = words.iter().position(|word| *word == "dport")?;
            value(&words[place + 1..]).0.items
        });
        // The first port stands for a range.
        ports.flatten().filter_map(|item| item.split('-').next()?.parse().ok()).collect()
    }

    /// Names what lets a connection in that should be dropped.
    pub(crate) fn why_open(&self, flow: &Flow) -> String {
        let chain = format!("chain {CHAIN}, table {TABLE}");
        let Some(own) = self.chains.get(&(TABLE.to_owned(), CHAIN.to_owned())) else {
            return format!("there is no {chain}: nothing drops what no edge allows");
        };
        match self.evaluate(TABLE, CHAIN, flow, DEPTH) {
            Verdict::Accepted(rule) => format!("{chain}, accepts it: {rule}"),
            Verdict::Continued if !own.policy_drops => format!("the policy of {chain}, is not drop"),
            _ => match (self.translation(flow), self.drop_of_others(flow)) {
                (Some(rule), _) => format!("another table translates its destination before {chain}: {rule}"),
                (None, Some(other)) if other.contains(" reject") => other,
                _ => format!("{chain}, drops it: a proxy or an address translation in between answers"),
            },
        }
    }

    /// Names what drops a connection that should be let in.
    pub(crate) fn why_dropped(&self, flow: &Flow) -> String {
        let chain = format!("chain {CHAIN}, table {TABLE}");
        let exists = self.chains.contains_key(&(TABLE.to_owned(), CHAIN.to_owned()));
        match self.evaluate(TABLE, CHAIN, flow, DEPTH) {
            Verdict::Dropped(rule) => return format!("{chain}, drops it: {rule}"),
            Verdict::Continued if exists => {
                return format!("the policy of {chain}, drops it, and no rule there accepts it");
            }
            Verdict::Accepted(_) | Verdict::Continued => {}
        }
        if let Some(rule) = self.translation(flow) {
            return format!("another table translates its destination: {rule}");
        }
        if let Some(other) = self.drop_of_others(flow) {
            return other;
        }
        format!("{chain}, accepts it, and no other table drops it: a firewall in between does")
    }

    /// What another table drops or rejects a connection by.
    fn drop_of_others(&self, flow: &Flow) -> Option<String> {
        self.chains.iter().find_map(|((table, name), base)| {
            let is_before = base.hook.as_deref().is_some_and(|hook| ["input", "prerouting"].contains(&hook));
            if !is_before || table == TABLE {
                return None;
            }
            match self.evaluate(table, name, flow, DEPTH) {
                Verdict::Dropped(rule) => {
                    Some(format!("chain {name}, table {table}, which is not tercet's, drops it: {rule}"))
                }
                Verdict::Continued if base.policy_drops => Some(format!(
                    "the policy of chain {name}, table {table}, which is not tercet's, drops it"
                )),
                _ => None,
            }
        })
    }

    /// A rule that translates the destination of a connection.
    fn translation(&self, flow: &Flow) -> Option<String> {
        self.chains.iter().find_map(|((table, name), chain)| {
            let rule =
                chain.rules.iter().find(|rule| is_translation(rule) && matches(rule, flow) == Some(true))?;
            Some(format!("chain {name}, table {table}: {rule}"))
        })
    }

    fn evaluate(&self, table: &str, name: &str, flow: &Flow, depth: usize) -> Verdict {
        let chain = self.chains.get(&(table.to_owned(), name.to_owned()));
        for rule in chain.iter().flat_map(|chain| &chain.rules) {
            // A rule with a condition that is not understood may decide or not.
            if matches(rule, flow) != Some(true) {
                continue;
            }
            let words: Vec<&str> =
                rule.split(" comment ").next().unwrap_or_default().split_whitespace().collect();
            match &words[..] {
                [.., "accept"] => return Verdict::Accepted(rule.clone()),
                [.., "drop"] => return Verdict::Dropped(rule.clone()),
                [.., "return"] => return Verdict::Continued,
                [.., "jump" | "goto", next] if depth > 0 => {
                    match self.evaluate(table, next, flow, depth - 1) {
                        Verdict::Continued => {}
                        decided => return decided,
                    }
                }
                words if words.contains(&"reject") => return Verdict::Dropped(rule.clone()),
                _ => {}
            }
        }
        Verdict::Continued
    }
}

/// Whether the conditions of a rule hold for the first packet of a connection; `None` if one is not understood.
fn matches(rule: &str, flow: &Flow) -> Option<bool> {
    let conditions = rule.split(" comment ").next().unwrap_or_default();
    let words: Vec<&str> = conditions.split_whitespace().collect();
    let mut rest = &words[..];
    let mut known = true;
    while let [first, after @ ..] = rest {
        let (holds, used) = match (*first, after) {
            ("ip" | "ip6", ["saddr", tail @ ..]) => {
                let family = (*first == "ip") == flow.to.is_ipv4();
                let (value, used) = value(tail);
                (
                    value
                        .holds(|it| flow.from.is_some_and(|from| family && contains(it, from)))
                        .map(|it| it && family),
                    used + 2,
                )
            }
            ("ip" | "ip6", ["daddr", tail @ ..]) => {
                let family = (*first == "ip") == flow.to.is_ipv4();
                let (value, used) = value(tail);
                (value.holds(|it| family && contains(it, flow.to.ip())).map(|it| it && family), used + 2)
            }
            ("tcp", ["dport", tail @ ..]) => {
                let (value, used) = value(tail);
                (value.holds(|it| is_in_range(it, flow.to.port())), used + 2)
            }
            ("ct", ["state", tail @ ..]) => {
                let (value, used) = value(tail);
                (value.holds(|it| it == "new"), used + 2)
            }
            ("meta", ["nfproto", family, ..]) => (Some((*family == "ipv4") == flow.to.is_ipv4()), 3),
            ("meta", ["l4proto", tail @ ..]) | ("ip", ["protocol", tail @ ..]) => {
                let (value, used) = value(tail);
                (value.holds(|it| it == "tcp" || it == "6"), used + 2)
            }
            ("iif" | "iifname", ["lo" | "\"lo\"", ..]) => (Some(false), 2),
            ("udp" | "icmp" | "icmpv6" | "sctp", _) => (Some(false), 1),
            ("fib", ["daddr", "type", kind, ..]) => (Some(*kind == "local"), 4),
            ("counter", ["packets", _, "bytes", _, ..]) => (Some(true), 5),
            ("counter", _) => (Some(true), 1),
            (
                "accept" | "drop" | "reject" | "jump" | "goto" | "return" | "dnat" | "redirect" | "tproxy",
                _,
            ) => break,
            _ => (None, 1),
        };
        match holds {
            Some(false) => return Some(false),
            Some(true) => {}
            None => known = false,
        }
        rest = rest.get(used..).unwrap_or_default();
    }
    known.then_some(true)
}

/// The value of a condition.
struct Value<'a> {
    is_negated: bool,
    /// `None` for a named set.
    items: Option<Vec<&'a str>>,
}

impl Value<'_> {
    fn holds(&self, test: impl Fn(&str) -> bool) -> Option<bool> {
        let items = self.items.as_ref()?;
        Some(items.iter().any(|item| test(item)) != self.is_negated)
    }
}

/// Reads `80`, `!= 80`, `{ 80, 443 }`, `established,related` or `@set`, and how many words that are.
fn value<'a>(words: &[&'a str]) -> (Value<'a>, usize) {
    let is_negated = words.first() == Some(&"!=");
    let skipped = usize::from(is_negated);
    match words.get(skipped) {
        Some(&"{") => {
            let items: Vec<&str> =
                words[skipped + 1..].iter().take_while(|word| **word != "}").copied().collect();
            let used = skipped + items.len() + 2;
            let items = items.into_iter().map(|item| item.trim_end_matches(',')).collect();
            (Value { is_negated, items: Some(items) }, used)
        }
        Some(set) if set.starts_with('@') => (Value { is_negated, items: None }, skipped + 1),
        Some(items) => (Value { is_negated, items: Some(items.split(',').collect()) }, skipped + 1),
        None => (Value { is_negated, items: None }, skipped),
    }
}

/// Whether an address is `10.0.0.1`, or in `10.0.0.0/24` or `10.0.0.1-10.0.0.9`.
fn contains(item: &str, address: IpAddr) -> bool {
    if let Some((low, high)) = item.split_once('-') {
        return match (low.parse::<IpAddr>(), high.parse::<IpAddr>()) {
            (Ok(low), Ok(high)) => (low..=high).contains(&address),
            _ => false,
        };
    }
    item.parse::<tercet_config::Network>().is_ok_and(|network| network.contains(address))
}

fn is_in_range(item: &str, port: u16) -> bool {
    let (low, high) = item.split_once('-').unwrap_or((item, item));
    match (low.parse(), high.parse()) {
        (Ok(low), Ok(high)) => (low..=high).contains(&port),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = r#"
table inet tercet {
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		ct state invalid drop
		iif "lo" accept
		icmp type { echo-request, time-exceeded } accept
		udp sport 67 udp dport 68 accept
		ip saddr 192.0.2.7 tcp dport 22 accept comment "ssh of the operator"
		ip saddr 10.0.0.10 ip daddr 10.0.0.11 tcp dport 8081 accept comment "lb to app-1"
		meta nfproto ipv6 tcp dport 80 accept comment "drop"
	}
}
"#;

    fn flow(from: Option<[u8; 4]>, port: u16) -> Flow {
        Flow { from: from.map(IpAddr::from), to: SocketAddr::from(([10, 0, 0, 11], port)) }
    }

    fn open(listing: &str, from: Option<[u8; 4]>, port: u16) -> String {
        Ruleset::read(listing).why_open(&flow(from, port))
    }

    fn dropped(listing: &str, from: Option<[u8; 4]>, port: u16) -> String {
        Ruleset::read(listing).why_dropped(&flow(from, port))
    }

    #[test]
    fn a_rule_too_many_and_a_missing_table_are_named() {
        let more = OWN.replace("\t\tmeta", "\t\ttcp dport { 6379, 7000-7100 } accept\n\t\tmeta");
        assert_eq!(
            open(&more, None, 7001),
            "chain input, table inet tercet, accepts it: tcp dport { 6379, 7000-7100 } accept"
        );
        assert!(open("", None, 1).starts_with("there is no chain input, table inet tercet"));
        assert!(open(&OWN.replace("policy drop", "policy accept"), None, 1).contains("is not drop"));
        let reject = "table inet filter {\nchain in {\ntype filter hook input priority 0; policy accept;\nreject\n}\n}\n";
        assert_eq!(
            open(&format!("{OWN}{reject}"), None, 1),
            "chain in, table inet filter, which is not tercet's, drops it: reject"
        );
        assert!(open(OWN, None, 1).contains("a proxy or an address translation in between answers"));
        let nat = "table ip nat {\n\tchain pre {\n\t\ttype nat hook prerouting priority dstnat; policy accept;\n\t\tfib daddr type local tcp dport 6379 dnat to 172.17.0.2\n\t}\n}\n";
        assert!(open(&format!("{OWN}{nat}"), None, 6379).contains("chain pre, table ip nat"));
        assert!(!open(&format!("{OWN}{nat}"), None, 6380).contains("table ip nat"));
    }

    #[test]
    fn the_chain_that_drops_an_edge_is_named() {
        let lb = Some([10, 0, 0, 10]);
        assert!(dropped(OWN, lb, 8081).contains("a firewall in between does"));
        assert_eq!(
            dropped(OWN, Some([10, 0, 0, 12]), 8081),
            "the policy of chain input, table inet tercet, drops it, and no rule there accepts it"
        );
        assert!(dropped(OWN, lb, 80).contains("no rule there accepts it"));
        let others = [
            (
                "chain INPUT {\ntype filter hook input priority filter; policy drop;\ntcp dport 22 accept\n}",
                "the policy of chain INPUT, table ip filter, which is not tercet's, drops it",
            ),
            (
                "chain INPUT {\ntype filter hook input priority filter; policy accept;\ncounter packets 1 bytes 2 jump ufw\n}\n\
                 chain ufw {\nip saddr 10.0.0.0/24 tcp dport 8000-9000 counter packets 0 bytes 0 reject with tcp reset\n}",
                "chain INPUT, table ip filter, which is not tercet's, drops it: ip saddr 10.0.0.0/24 tcp dport 8000-9000 counter \
                 packets 0 bytes 0 reject with tcp reset",
            ),
            (
                "chain INPUT {\ntype filter hook input priority filter; policy accept;\nxt match hashlimit drop\ntcp dport != 22 ip saddr @bad drop\n}",
                "chain input, table inet tercet, accepts it, and no other table drops it: a firewall in between does",
            ),
        ];
        for (chains, expected) in others {
            assert_eq!(dropped(&format!("{OWN}table ip filter {{\n{chains}\n}}\n"), lb, 8081), expected);
        }
    }
}
