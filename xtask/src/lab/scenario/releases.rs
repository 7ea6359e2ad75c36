//! Releases: rolled, gone back from, refused, interrupted.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{FOUR_MACHINES, Scenario, lossless};
use crate::lab::traffic::Kind;
use crate::lab::until;

pub(super) fn leases(scenario: &Scenario<'_>) -> Result<()> {
    let now = scenario.on("db", "date +%s")?;
    let lease = |expires: u64| {
        format!(
            "mkdir -p /var/lib/tercet; printf '{{\"owner\":\"ann@desk\",\"token\":\"t\",\"expires\":{expires},\"fence\":7,\
             \"taken_over_from\":null}}' > /var/lib/tercet/lease.json"
        )
    };
    let now: u64 = now.trim().parse()?;
    scenario.write(FOUR_MACHINES, "api.db-max-rows = 900")?;
    scenario.on("db", &lease(now + 3600))?;
    let said = scenario.fail("apply", &["--yes"])?;
    ensure!(said.contains("db: ann@desk is changing this machine"), "who has the lease is not said:\n{said}");
    // Nobody else was touched: the leases taken before were given back.
    let lb = scenario.on("lb", "cat /var/lib/tercet/lease.json")?;
    ensure!(lb.contains("\"owner\":\"\""), "lb's lease was kept: {lb}");
    scenario.on("db", &lease(now - 1))?;
    let output = scenario.outcome("apply", &["--yes"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.contains("lease of ann@desk had run out"), "{said}");
    Ok(())
}

pub(super) fn under_load(scenario: &Scenario<'_>) -> Result<()> {
    let traffic = scenario.traffic(Kind::Read)?;
    scenario.write(FOUR_MACHINES, "api.db-max-rows = 500")?;
    let said = scenario.succeed("apply", &["--yes"])?;
    ensure!(
        said.contains("app-1: release") && said.contains("app-2: release"),
        "no release was rolled:\n{said}"
    );
    scenario.succeed("rollback", &["--yes"])?;
    lossless(&traffic.stop()?)?;
    let units = scenario.on("app1", "systemctl list-units --all --plain --no-legend 'tercet-app-*'")?;
    ensure!(units.lines().count() == 1, "more than one server is left on app1:\n{units}");
    // What the file says is the newer release again.
    scenario.succeed("apply", &["--yes"]).map(drop)
}

pub(super) fn taken_back(scenario: &Scenario<'_>) -> Result<()> {
    let before = scenario.on("app1", "systemctl list-units --plain --no-legend 'tercet-app-*'")?;
    let traffic = scenario.traffic(Kind::Read)?;
    scenario.write(FOUR_MACHINES, "api.jwt-role-claim-key = \"role[\"")?;
    let said = scenario.fail("apply", &["--yes"])?;
    ensure!(said.contains("what served before serves again"), "{said}");
    ensure!(said.contains("jwt-role-claim-key"), "the server's own words are not passed on:\n{said}");
    lossless(&traffic.stop()?)?;
    let after = scenario.on("app1", "systemctl list-units --plain --no-legend 'tercet-app-*'")?;
    ensure!(before == after, "app1 ran\n{before}and now\n{after}");
    scenario.write(FOUR_MACHINES, "api.db-max-rows = 500")?;
    scenario.succeed("apply", &["--yes"]).map(drop)
}

/// A migration without anything else that is new: applied once, and known to the data API.
pub(super) fn migration(scenario: &Scenario<'_>) -> Result<()> {
    let file = scenario.project.path().join("migrations/0002_note.sql");
    std::fs::write(file, "alter table event add note text;\n")?;
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("database: migration 0002_note.sql"), "plan does not show the migration:\n{plan}");
    scenario.succeed("apply", &["--yes"])?;
    until("the new column's answer", Duration::from_secs(10), || {
        Ok(scenario.get("/event?select=note&number=eq.0")?.contains("[{\"note\":null}]"))
    })?;
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("nothing to do"), "the second plan has steps:\n{plan}");
    Ok(())
}
