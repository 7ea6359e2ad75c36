//! What a release must survive: servers that are all broken, programs that cannot start, builds that are cut off,
//! operators whose computer is suspended.

use std::io::Read as _;
use std::process::Child;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{SHARED, Scenario, faults, interrupted, own};
use crate::lab::machines::Machine;
use crate::lab::{signal, until};

const RUN: &str = "python3 main.py";
const BUILD: &str = "cp source version";

/// A build that never ends, on the machines that have this file; when it has begun, one in its folder says so.
const STUCK: &str = "sh -c 'cp source version; if test -e /run/stuck; then touch building; sleep 86399; fi'";

fn write_source(scenario: &Scenario<'_>, text: &str) -> Result<()> {
    Ok(std::fs::write(scenario.project.path().join("source"), text)?)
}

fn ensure_served(scenario: &Scenario<'_>, version: &str) -> Result<()> {
    let answer = scenario.get("/")?;
    ensure!(answer.contains(&format!("{version} postgresql://")), "{version} is not served: {answer}");
    Ok(())
}

/// Breaks every server: from then on their health is 500.
fn break_all(scenario: &Scenario<'_>) -> Result<()> {
    until("the outage", Duration::from_secs(30), || {
        Ok(scenario.get("/break")?.starts_with("HTTP/1.1 500") && faults::servers_up(scenario) == 0)
    })
}

/// Every server of the running release fails its health check: neither going back nor going on waits for them.
pub(super) fn undone_and_fixed(scenario: &Scenario<'_>) -> Result<()> {
    write_source(scenario, "bad")?;
    scenario.succeed("apply", &["--yes"])?;
    break_all(scenario)?;
    scenario.succeed("rollback", &["--yes"])?;
    ensure_served(scenario, "one")?;
    break_all(scenario)?;
    write_source(scenario, "fixed")?;
    scenario.succeed("apply", &["--yes"])?;
    ensure_served(scenario, "fixed")
}

/// A program by a relative path runs; one that is missing is refused before anything is switched, and the next apply
/// leaves nothing of it.
pub(super) fn refused(scenario: &Scenario<'_>) -> Result<()> {
    let folder = scenario.project.path();
    std::fs::write(folder.join("server.sh"), "#!/bin/sh\nexec python3 main.py\n")?;
    crate::command::output(std::process::Command::new("chmod").arg("755").arg(folder.join("server.sh")))?;
    scenario.write(SHARED, &own("./server.sh", BUILD))?;
    scenario.succeed("apply", &["--yes"])?;
    ensure_served(scenario, "fixed")?;
    scenario.write(SHARED, &own("./missing.sh", BUILD))?;
    let printed = scenario.fail("apply", &["--yes"])?;
    ensure!(printed.contains("the previous application servers serve again"), "{printed}");
    ensure!(printed.contains("missing.sh is not executable"), "systemd's message is not printed:\n{printed}");
    ensure_served(scenario, "fixed")?;
    scenario.write(SHARED, &own("./server.sh", BUILD))?;
    scenario.succeed("apply", &["--yes"])?;
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("nothing to do"), "{plan}");
    let units =
        scenario.on("app1", "ls /etc/systemd/system /etc/systemd/system/*.wants | grep -c tercet-app-1@")?;
    ensure!(units.trim() == "2", "units are left on app1: {units}");
    Ok(())
}

/// An apply that is stuck in a build on app1, as soon as it is.
fn stuck(scenario: &Scenario<'_>, source: &str) -> Result<Child> {
    scenario.on("app1", "touch /run/stuck")?;
    write_source(scenario, source)?;
    scenario.write(SHARED, &own(RUN, STUCK))?;
    let child = interrupted::begun(scenario)?.spawn()?;
    scenario.on(
        "app1",
        "until ls /usr/local/lib/tercet/releases/*/program/building >/dev/null 2>&1; do sleep .1; done",
    )?;
    Ok(child)
}

pub(super) fn half_built(scenario: &Scenario<'_>) -> Result<()> {
    let mut apply = stuck(scenario, "whole")?;
    let machine = Machine::named("app1")?;
    scenario.lab.cut(machine)?;
    ensure!(!apply.wait()?.success(), "the apply did not notice that app1 is gone");
    // What was stuck is on a disk in memory, and so gone.
    scenario.lab.start(machine)?;
    apply_after_the_lease(scenario)?;
    ensure_served(scenario, "whole")
}

/// Applies as soon as the lease of an apply that did not release it has expired.
fn apply_after_the_lease(scenario: &Scenario<'_>) -> Result<()> {
    until("the end of the lease", Duration::from_secs(90), || {
        let output = scenario.outcome("apply", &["--yes"])?;
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success() || printed.contains("is changing this machine"), "{printed}");
        Ok(output.status.success())
    })
}

/// The operator's computer is suspended during a build. When its lease has expired another operator goes on: the
/// build ends, and the first changes nothing when it wakes up.
pub(super) fn asleep(scenario: &Scenario<'_>) -> Result<()> {
    let mut sleeper = stuck(scenario, "sleeper")?;
    signal(&sleeper, "STOP")?;
    scenario.on("app1", "rm /run/stuck")?;
    write_source(scenario, "other")?;
    apply_after_the_lease(scenario)?;
    ensure_served(scenario, "other")?;
    let running = scenario.on("app1", "pgrep -fc '[s]leep 86399' || true")?;
    ensure!(running.trim() == "0", "the build of the one who sleeps goes on");
    signal(&sleeper, "CONT")?;
    let mut printed = String::new();
    sleeper.stderr.take().context("standard error is piped")?.read_to_string(&mut printed)?;
    ensure!(!sleeper.wait()?.success(), "the suspended operator finished: {printed}");
    ensure_served(scenario, "other")?;
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("nothing to do"), "{plan}");
    Ok(())
}
