//! Rules of other nftables tables that translate the destination of the machine's connections: a client of such a port would
//! reach another process or another machine. They are removed one by one; the tables stay.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::command::{CommandError, output, run};
use crate::error::Error;
use crate::resource::{Action, Context, Resource};

/// The ports whose connections no other table may translate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Translations(pub Vec<u16>);

/// A rule of another table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The family and the name of its table.
    table: (String, String),
    /// The name of its chain.
    chain: String,
    /// Its number in the kernel (nft(8), "handle").
    handle: u64,
    /// Its text.
    text: String,
}

/// A change to other tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Removes a rule.
    Remove {
        /// The rule.
        rule: Rule,
    },
}

impl Resource for Option<Translations> {
    /// The rules that translate destinations, of all tables but tercet's.
    type Facts = Vec<Rule>;
    type Record = ();
    type Step = Step;

    fn probe(&self, (): &()) -> Result<Vec<Rule>, Error> {
        let Some(Translations(ports)) = self else { return Ok(Vec::new()) };
        let output = match output("nft", &["-a", "-s", "-n", "list", "ruleset"], "") {
            Err(CommandError::Start { .. }) => return Ok(Vec::new()),
            output => output?,
        };
        Ok(rules(&String::from_utf8_lossy(&output.stdout), ports))
    }

    fn diff(&self, facts: &Vec<Rule>, _context: &mut Context<'_>) -> Vec<Step> {
        facts.iter().map(|rule| Step::Remove { rule: rule.clone() }).collect()
    }
}

impl Action for Step {
    fn execute(&self, _note: &mut dyn FnMut(&str)) -> Result<(), Error> {
        let Self::Remove { rule: Rule { table: (family, table), chain, handle, text } } = self;
        // A number may belong to another rule by now.
        let listing = run("nft", &["-a", "-s", "-n", "list", "chain", family, table, chain])?;
        if !listing.lines().any(|line| line.trim() == format!("{text} # handle {handle}")) {
            return Err(Error::Outdated("another program changed its nftables table"));
        }
        run("nft", &["delete", "rule", family, table, chain, "handle", &handle.to_string()])?;
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Remove { rule: Rule { table: (family, table), chain, text, .. } } = self;
        write!(f, "remove a rule of chain {chain}, table {family} {table}: {text}")
    }
}

/// The rules of a listing (`nft -a -s -n list ruleset`) that translate the destination of connections to one of `ports`.
fn rules(listing: &str, ports: &[u16]) -> Vec<Rule> {
    let mut rules = Vec::new();
    let (mut table, mut chain, mut is_base) = (None, None, false);
    for line in listing.lines() {
        let (text, handle) = match line.trim().rsplit_once(" # handle ") {
            Some((text, handle)) => (text.trim(), handle.trim().parse::<u64>().ok()),
            None => (line.trim(), None),
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        match (&words[..], handle) {
            (["table", family, name, "{"], _) => table = Some(((*family).to_owned(), (*name).to_owned())),
            (["chain", name, "{"], _) => (chain, is_base) = (Some((*name).to_owned()), false),
            (["type", ..], _) => is_base = words.contains(&"prerouting"),
            (["}"], _) if chain.is_some() => chain = None,
            (["}"], _) => table = None,
            (_, Some(handle)) if translates(text, ports, is_base) => {
                let (Some(table), Some(chain)) = (&table, &chain) else { continue };
                if (table.0.as_str(), table.1.as_str()) != ("inet", "tercet") {
                    let (table, chain, text) = (table.clone(), chain.clone(), text.to_owned());
                    rules.push(Rule { table, chain, handle, text });
                }
            }
            _ => {}
        }
    }
    rules
}

/// Whether a rule translates the destination of connections to one of `ports`. One that names no port does so where every
/// connection comes by and no other destination is named.
fn translates(rule: &str, ports: &[u16], is_base: bool) -> bool {
    if !is_translation(rule) {
        return false;
    }
    let words = words(rule);
    match words.iter().position(|word| *word == "dport") {
        Some(place) => matches_port(&words[place + 1..], ports),
        None => is_base && !words.contains(&"daddr") && !words.contains(&"udp"),
    }
}

/// Whether a rule translates the destination of connections: in nft's own words (nft(8)), or as a target of iptables.
pub fn is_translation(rule: &str) -> bool {
    let words = words(rule);
    words.iter().any(|word| ["dnat", "redirect", "tproxy"].contains(word))
        || words.windows(2).any(|pair| pair == ["target", "\"DNAT\""] || pair == ["target", "\"REDIRECT\""])
}

/// The words of a rule, without its comment.
fn words(rule: &str) -> Vec<&str> {
    rule.split_whitespace().take_while(|word| *word != "comment").collect()
}

/// Whether the expression after `dport` matches one of `ports`: `80`, `!= 22`, `80-90`, `{ 80, 443 }`.
fn matches_port(words: &[&str], ports: &[u16]) -> bool {
    let is_negated = words.first() == Some(&"!=");
    let words = &words[usize::from(is_negated)..];
    let items: Vec<&str> = if words.first() == Some(&"{") {
        words[1..].iter().take_while(|word| **word != "}").copied().collect()
    } else {
        words.iter().take(1).copied().collect()
    };
    let ranges: Vec<(u16, u16)> = items
        .iter()
        .filter_map(|item| {
            let item = item.trim_end_matches(',');
            let (low, high) = item.split_once('-').unwrap_or((item, item));
            Some((low.parse().ok()?, high.parse().ok()?))
        })
        .collect();
    ports.iter().any(|port| ranges.iter().any(|(low, high)| (low..=high).contains(&port)) != is_negated)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As nft 1.0.6 lists it.
    const LISTING: &str = r#"table inet tercet { # handle 1
	chain input { # handle 1
		type filter hook input priority filter; policy drop;
		tcp dport 80 accept comment "redirect" # handle 2
	}
}
table ip nat { # handle 2
	chain PREROUTING { # handle 1
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local counter packets 0 bytes 0 jump DOCKER # handle 5
		tcp dport 80 redirect to :8080 # handle 6
		tcp dport { 443, 8000-8100 } dnat to 10.9.0.2:80 # handle 7
		tcp dport 5353 redirect to :53 # handle 8
		tcp dport != 22 redirect to :1 # handle 9
		ip daddr 203.0.113.9 dnat to 10.9.0.3 # handle 10
		dnat to 10.9.0.4 # handle 11
		udp dport 53 redirect to :5353 # handle 12
		tcp dport 80 accept comment "no redirect here" # handle 13
	}
	chain DOCKER { # handle 3
		iifname != "docker0" tcp dport 6379 counter packets 3 bytes 180 dnat to 172.17.0.2:6379 # handle 14
		meta l4proto tcp dnat to 10.244.0.3:80 # handle 15
	}
	chain OUTPUT { # handle 4
		type nat hook output priority dstnat; policy accept;
		dnat to 10.9.0.5 # handle 16
	}
}
"#;

    #[test]
    fn rules_that_take_over_a_port_are_found_and_others_are_left_alone() {
        let found = rules(LISTING, &[80, 443, 22]);
        let handles: Vec<u64> = found.iter().map(|rule| rule.handle).collect();
        assert_eq!(handles, [6, 7, 9, 11]);
        assert_eq!(
            Step::Remove { rule: found[0].clone() }.to_string(),
            "remove a rule of chain PREROUTING, table ip nat: tcp dport 80 redirect to :8080"
        );
        assert_eq!(rules(LISTING, &[6379]).iter().map(|rule| rule.handle).collect::<Vec<_>>(), [9, 11, 14]);
        assert_eq!(rules("", &[80]), []);
    }

    #[test]
    fn the_ports_of_a_rule_are_numbers_ranges_and_sets() {
        for (text, matches) in [
            ("80 redirect", true),
            ("81 redirect", false),
            ("70-90 redirect", true),
            ("{ 22, 80 } redirect", true),
            ("{ 22, 81-90 } redirect", false),
            ("!= 80 redirect", false),
            ("!= { 22, 81 } redirect", true),
            ("@ports redirect", false),
        ] {
            let words: Vec<&str> = text.split(' ').collect();
            assert_eq!(matches_port(&words, &[80]), matches, "{text}");
        }
    }
}
