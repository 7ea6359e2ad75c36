//! What decides an unexpected result of a connection attempt, asked of the machine that it went to.

use std::net::IpAddr;

use anyhow::Result;

use super::{Check, OPERATOR};
use crate::agent::{Query, Reply};
use crate::at_once::at_once;
use crate::fleet::{Fleet, Member, unexpected};
use crate::inside::Inside;
use crate::nftables::Flow;

/// Fills in the rule of each failed check.
pub(super) fn explain(fleet: &Fleet<'_>, insides: &[Inside], checks: &mut [Check]) -> Result<()> {
    let places: Vec<usize> = (0..fleet.machines.len()).collect();
    let failed: Vec<&Check> = checks.iter().filter(|check| !check.passed).collect();
    let verdicts = at_once(&places, |place| {
        let member = &fleet.machines[*place];
        let of_it = failed.iter().filter(|check| check.to == member.machine.name);
        let flows: Vec<(Flow, bool)> =
            of_it.map(|check| (flow(fleet, member, check), check.allowed)).collect();
        if flows.is_empty() {
            return Ok(Vec::new());
        }
        match fleet.agent(member).ask(Query::Verdicts { flows })? {
            Reply::Verdicts(verdicts) => Ok(verdicts),
            _ => Err(unexpected(&member.machine.name)),
        }
    })?;
    for (place, verdicts) in verdicts.into_iter().enumerate() {
        let member = &fleet.machines[place];
        let of_it = checks.iter_mut().filter(|check| !check.passed && check.to == member.machine.name);
        for (check, verdict) in of_it.zip(verdicts) {
            check.rule = Some(rule(fleet, member, &insides[place], check, &verdict));
        }
    }
    Ok(())
}

fn flow(fleet: &Fleet<'_>, to: &Member<'_>, check: &Check) -> Flow {
    let is_same = |address: &IpAddr| address.is_ipv4() == check.address.is_ipv4();
    let from = if check.from == OPERATOR {
        Some(to.system.operator.0).filter(is_same)
    } else {
        let from = fleet.members().find(|member| member.machine.name == check.from);
        from.and_then(|from| {
            let own = [from.machine.address];
            own.iter().chain(&from.system.addresses).copied().find(is_same)
        })
    };
    Flow { from, to: check.address }
}

fn rule(fleet: &Fleet<'_>, to: &Member<'_>, inside: &Inside, check: &Check, verdict: &str) -> String {
    let Check { from, address, .. } = check;
    let name = &to.machine.name;
    if !check.tried {
        return format!("{from}: there is no route to {0}: look at `ip route get {0}` there", address.ip());
    }
    if check.allowed && check.outcome.contains("refused") {
        let edges = fleet.topology.edges();
        let part = edges.iter().find(|edge| edge.machine.name == *name && edge.port == address.port());
        let part = part.map_or("a process", |edge| edge.to.name.as_str());
        let there = inside.at(address.port());
        let there = if there.is_empty() {
            "no process listens on that port".to_owned()
        } else {
            format!("it listens on {there}")
        };
        return format!(
            "{name}: the firewall accepts this, and {part} does not: {there}; look at `tercet status`"
        );
    }
    format!("{name}: {verdict}")
}
