//! The database moves to another machine, and back to where its old data is.

use anyhow::{Context as _, Result, ensure};

use super::super::{Scenario, nothing_to_do};
use super::{WITH_VAULT, served_or_told_to_wait};
use crate::lab::machines::Machine;
use crate::lab::traffic::Kind;

/// The machines after the move: the new one has an application server, too, and the old one leaves the project.
const MOVED: &str = "lb=balancer app1=application app2=application+database vault=backup";

pub(super) fn moved(scenario: &Scenario<'_>) -> Result<()> {
    let first = 6000;
    there(scenario, ("db", "app2"), MOVED, first)?;
    let running = scenario.on("db", "systemctl is-active postgresql@15-main.service || true")?;
    ensure!(running.trim() != "active", "PostgreSQL still runs on the old machine");
    let kept = scenario.on("db", "test -d /var/lib/postgresql/15/main && echo kept")?;
    ensure!(kept.trim() == "kept", "the old data is gone");
    there(scenario, ("app2", "db"), WITH_VAULT, first + 100_000)
}

/// Moves from one machine to another while rows are written: each acknowledged one is there.
fn there(scenario: &Scenario<'_>, (from, to): (&str, &str), tiers: &str, first: u64) -> Result<()> {
    scenario.write(tiers, "")?;
    let refused = scenario.fail("apply", &["--yes"])?;
    super::named(&refused, &["tercet move database"])?;
    let traffic = scenario.traffic_from(Kind::Write, first)?;
    let printed = scenario.succeed("move", &["database", "--to", to, "--yes"])?;
    scenario.answered(std::time::Duration::from_secs(10))?;
    let outcome = traffic.stop()?;
    served_or_told_to_wait(&outcome).with_context(|| printed.clone())?;
    let rows = scenario.sql_on(to, &format!("select number from event where number >= {first}"))?;
    let rows: Vec<u64> = rows.lines().map(str::parse).collect::<Result<_, _>>()?;
    let lost: Vec<_> = outcome.acknowledged.iter().filter(|it| !rows.contains(&it.number)).collect();
    ensure!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let sessions = scenario.sql_on(
        to,
        "select count(distinct client_addr) from pg_stat_activity where usename not in ('postgres') and client_addr is not null",
    )?;
    ensure!(sessions == "2", "sessions of {sessions} application servers");
    println!(
        "{from} ({}) → {to}: {} rows acknowledged, {:?}, the slowest {} ms",
        Machine::named(from)?.address(),
        outcome.acknowledged.len(),
        outcome.statuses,
        outcome.slowest
    );
    nothing_to_do(scenario)?;
    // Backups are those of the new machine.
    scenario.succeed("backup", &[])?;
    scenario.check_passes()
}
