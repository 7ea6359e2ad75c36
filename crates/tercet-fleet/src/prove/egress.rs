//! Connection attempts as the accounts of the tiers, which may open their edges and nothing else.

use std::net::SocketAddr;

use anyhow::Result;
use tercet_config::Egress;

use super::{Check, outcome};
use crate::agent::{Query, Reply};
use crate::desired::{account, egress};
use crate::fleet::{Fleet, Member, unexpected};
use crate::reachability::Reachability;

/// An attempt from a machine for each of its accounts that are limited, to another machine's sshd, which no tier connects to;
/// `made` are the attempts of root, which is not limited.
pub(super) fn attempts(fleet: &Fleet<'_>, from: &Member<'_>, made: &[Check]) -> Result<Vec<Check>> {
    let Some(to) = fleet.machines.iter().find(|it| it.machine.name != from.machine.name) else {
        return Ok(Vec::new());
    };
    let address = SocketAddr::new(to.machine.address, to.system.operator.1);
    let project = fleet.project()?;
    let mut checks = Vec::new();
    for tier in &from.machine.tiers {
        match egress(&project, *tier)? {
            Egress::Only(destinations) if !destinations.iter().any(|it| it.contains(address)) => {}
            _ => continue,
        }
        let account = account(*tier);
        let question = Query::Connect { targets: vec![address], user: Some(account.to_owned()) };
        let Reply::Connected(reached) = fleet.agent(from).ask(question)? else {
            return Err(unexpected(&from.machine.name));
        };
        let is_it = |check: &&Check| {
            check.from == from.machine.name && check.to == to.machine.name && check.address == address
        };
        let has_route = made.iter().find(is_it).is_some_and(|check| check.tried);
        let reached = match reached.first() {
            // A rule of this machine answers so, too (icmpx admin-prohibited in nft(8), RFC 1812, section 5.2.7.1).
            Some(Reachability::NoRoute) if has_route => Reachability::Prohibited,
            Some(reached) => reached.clone(),
            None => return Err(unexpected(&from.machine.name)),
        };
        let passed = matches!(reached, Reachability::Prohibited | Reachability::NoRoute);
        checks.push(Check {
            from: from.machine.name.clone(),
            to: to.machine.name.clone(),
            address,
            what: format!("tcp as {account}"),
            allowed: false,
            outcome: outcome(&reached),
            tried: reached != Reachability::NoRoute,
            passed,
            rule: (!passed).then(|| {
                format!("{}: chain output, table inet tercet, does not limit {account}", from.machine.name)
            }),
        });
    }
    Ok(checks)
}
