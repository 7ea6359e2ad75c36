//! Login attempts to PostgreSQL from an application machine: without TLS, without a certificate, with a wrong password, as other
//! roles.

use std::net::SocketAddr;

use anyhow::Result;
use tercet_config::{Edge, End, Protocol};
use tercet_database::roles::{AUTHENTICATOR, owner};

use super::{Check, outcome};
use crate::agent::{Query, Reply};
use crate::desired::credentials_folder;
use crate::fleet::{Fleet, Member, unexpected};
use crate::reachability::{DatabaseLogin, LoginMeans, Reachability};

/// The login attempts from an application machine.
pub(super) fn logins(fleet: &Fleet<'_>, member: &Member<'_>) -> Result<Vec<Check>> {
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
    // The certificates and passwords are those of all applications.
    let application = fleet.topology.applications()[0].name.as_deref();
    let credentials = credentials_folder(&fleet.project()?, member.machine, application);
    let Reply::Tried(reached) = fleet.agent(member).ask(Query::LogIn { logins, credentials })? else {
        return Err(unexpected(&member.machine.name));
    };
    let mut checks = Vec::new();
    for ((role, database, with, what, allowed), reached) in cases.iter().zip(reached) {
        let passed = match reached {
            Reachability::Open => *allowed,
            Reachability::Privileged => false,
            _ => !allowed,
        };
        let asked =
            Login { port: edge.port, database, role, local, tls: !local && *with != LoginMeans::NoTls };
        let rule = if passed { None } else { Some(decides(fleet, member, edge, &asked, *allowed, &reached)) };
        checks.push(Check {
            from: member.machine.name.clone(),
            to: edge.machine.name.clone(),
            address,
            what: format!("postgres: {what}"),
            allowed: *allowed,
            outcome: outcome(&reached),
            tried: reached != Reachability::NoRoute,
            passed,
            rule,
        });
    }
    Ok(checks)
}

/// A login as `pg_hba.conf` sees it.
struct Login<'a> {
    port: u16,
    database: &'a str,
    role: &'a str,
    local: bool,
    tls: bool,
}

/// What decides an unexpected result of a login from a machine.
fn decides(
    fleet: &Fleet<'_>,
    from: &Member<'_>,
    edge: &Edge<'_>,
    login: &Login<'_>,
    allowed: bool,
    reached: &Reachability,
) -> String {
    let name = &edge.machine.name;
    match reached {
        Reachability::Privileged if allowed => {
            return format!(
                "{name}: the role {} has a privileged attribute: an apply takes it away",
                login.role
            );
        }
        Reachability::TimedOut | Reachability::Refused | Reachability::NoRoute => {
            return format!("{name}: the connection fails, not the login");
        }
        _ => {}
    }
    let must = if allowed { "pg_hba.conf must accept this" } else { "pg_hba.conf must not accept this" };
    let client = if login.local { edge.address } else { from.machine.address };
    let question = Query::HbaLine {
        port: login.port,
        database: login.database.to_owned(),
        role: login.role.to_owned(),
        client,
        tls: login.tls,
    };
    let answer = fleet.member(name).and_then(|member| fleet.agent(member).ask(question));
    match answer {
        Ok(Reply::HbaLine(Some(line))) => format!("{name}: {must}; it decides by {line}"),
        Ok(Reply::HbaLine(None)) => format!("{name}: {must}; no line of it matches"),
        _ => format!("{name}: {must}; PostgreSQL there does not say by which line it decides"),
    }
}
