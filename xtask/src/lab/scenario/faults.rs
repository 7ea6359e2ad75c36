//! Reboots, power cuts and network failures of machines.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{Scenario, lossless};
use crate::lab::machines::{MACHINES, Machine};
use crate::lab::traffic::{Kind, READERS};
use crate::lab::until;

/// How long a machine of the lab may take from boot to answers.
const BOOT: Duration = Duration::from_secs(60);

fn machine(name: &str) -> Result<Machine> {
    Machine::named(name)
}

pub(super) fn unreachable(scenario: &Scenario<'_>) -> Result<()> {
    let file = scenario.project.path().join("tercet.toml");
    let applied = std::fs::read(&file)?;
    scenario.lab.cut(machine("app2")?)?;
    scenario.write(super::FOUR_MACHINES, "api.db-max-rows = 300")?;
    let printed = scenario.fail("apply", &["--yes"])?;
    ensure!(printed.contains("app2: cannot be reached by ssh"), "the machine is not named:\n{printed}");
    let kept = scenario.on("app1", "cat /usr/local/lib/tercet/releases/*/api.conf")?;
    ensure!(!kept.contains("300"), "app1 was changed although app2 could not be:\n{kept}");
    scenario.lab.start(machine("app2")?)?;
    std::fs::write(file, applied)?;
    healthy(scenario)
}

/// Waits until the balancer hands requests to both servers.
pub(super) fn healthy(scenario: &Scenario<'_>) -> Result<()> {
    until("both servers in rotation", BOOT, || Ok(servers_up(scenario) == 2))
}

/// How many servers pass their health checks.
pub(super) fn servers_up(scenario: &Scenario<'_>) -> usize {
    let servers =
        scenario.on("lb", "curl -s --unix-socket /run/tercet-balancer/admin.sock http://localhost/servers");
    let servers: Value = serde_json::from_str(&servers.unwrap_or_default()).unwrap_or_default();
    servers["servers"].as_array().map_or(0, |all| all.iter().filter(|it| it["state"] == "up").count())
}

pub(super) fn reboots(scenario: &Scenario<'_>) -> Result<()> {
    for name in ["app1", "app2"] {
        let traffic = scenario.traffic(Kind::Read)?;
        scenario.lab.reboot(machine(name)?)?;
        healthy(scenario)?;
        lossless(&traffic.stop()?)?;
    }
    // Without the only database or balancer, requests cannot be answered; but everything recovers by itself.
    for name in ["db", "lb"] {
        scenario.lab.reboot(machine(name)?)?;
        scenario.answered(BOOT)?;
        healthy(scenario)?;
    }
    scenario.succeed("prove", &[]).map(drop)
}

/// One application machine loses its connection to the database while both run: requests go to the other one, and none waits
/// for long.
pub(super) fn database_unreachable(scenario: &Scenario<'_>) -> Result<()> {
    let traffic = scenario.traffic(Kind::Read)?;
    let database = machine("db")?.address();
    scenario.on(
        "app1",
        &format!(
            "nft -f - <<'.'\ntable inet cut {{\n chain output {{\n  type filter hook output priority -10;\n  ip daddr {database} drop\n \
             }}\n chain input {{\n  type filter hook input priority -10;\n  ip saddr {database} drop\n }}\n}}\n."
        ),
    )?;
    let begin = std::time::Instant::now();
    until("app-1 out of rotation", Duration::from_secs(10), || Ok(up(scenario)? == ["app-2"]))?;
    let took = begin.elapsed();
    // As long as it is out, all is answered by the other.
    std::thread::sleep(Duration::from_secs(3));
    scenario.on("app1", "nft delete table inet cut")?;
    healthy(scenario)?;
    let outcome = traffic.stop()?;
    ensure!(outcome.answered > 0, "nothing was answered");
    ensure!(outcome.slowest <= 3000, "a request took {} ms: {:?}", outcome.slowest, outcome.examples);
    ensure!(took <= Duration::from_secs(3), "app-1 was out after {took:?}");
    Ok(())
}

/// The servers in rotation.
fn up(scenario: &Scenario<'_>) -> Result<Vec<String>> {
    let servers = scenario
        .on("lb", "curl -s --unix-socket /run/tercet-balancer/admin.sock http://localhost/servers")?;
    let servers: Value = serde_json::from_str(&servers)?;
    let all = servers["servers"].as_array().map_or(&[][..], Vec::as_slice);
    let names = all.iter().filter(|it| it["state"] == "up").filter_map(|it| it["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

pub(super) fn application_cut(scenario: &Scenario<'_>) -> Result<()> {
    let traffic = scenario.traffic(Kind::Read)?;
    std::thread::sleep(Duration::from_secs(1));
    scenario.lab.cut(machine("app1")?)?;
    // Long enough for requests to the dead machine to time out.
    std::thread::sleep(Duration::from_secs(8));
    let outcome = traffic.stop()?;
    ensure!(outcome.answered > 0, "nothing was answered");
    ensure!(
        outcome.failed <= READERS as u64,
        "{} requests failed, and at most {READERS} were in flight: {:?}",
        outcome.failed,
        outcome.examples
    );
    scenario.lab.start(machine("app1")?)?;
    healthy(scenario)
}

pub(super) fn database_cut(scenario: &Scenario<'_>) -> Result<()> {
    let traffic = scenario.traffic(Kind::Write)?;
    std::thread::sleep(Duration::from_secs(3));
    scenario.lab.cut(machine("db")?)?;
    scenario.lab.start(machine("db")?)?;
    scenario.answered(BOOT)?;
    let outcome = traffic.stop()?;
    ensure!(outcome.acknowledged.len() > 10, "hardly anything was written: {:?}", outcome.examples);
    let stored = scenario.on("db", "runuser -u postgres -- psql -Atc 'select number from event' shop")?;
    let stored: std::collections::BTreeSet<u64> =
        stored.lines().filter_map(|line| line.parse().ok()).collect();
    let numbers = outcome.acknowledged.iter().map(|row| row.number);
    let lost: Vec<u64> = numbers.filter(|number| !stored.contains(number)).collect();
    ensure!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    Ok(())
}

pub(super) fn all_at_once(scenario: &Scenario<'_>) -> Result<()> {
    std::thread::scope(|scope| {
        let reboots: Vec<_> =
            MACHINES.into_iter().map(|machine| scope.spawn(move || scenario.lab.reboot(machine))).collect();
        reboots
            .into_iter()
            .try_for_each(|reboot| reboot.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?)
    })?;
    scenario.answered(BOOT)?;
    healthy(scenario)?;
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("nothing to do"), "after the reboot there is:\n{plan}");
    scenario.succeed("prove", &[]).map(drop)
}
