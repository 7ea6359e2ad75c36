//! Applies that are killed: at every kind of step, without a word of goodbye. Each next one goes on from there.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::{FOUR_MACHINES, Scenario, lossless};
use crate::lab::machines::MACHINES;
use crate::lab::traffic::Kind;
use crate::lab::{kill, signal};

/// More applies than any change has operations.
const ATTEMPTS: usize = 60;

/// Moments of a first apply, in their order.
const FIRST: &[&str] = &[
    "lb: install ",
    "lb: write /etc/tercet/credentials/",
    "lb: restart postgresql@",
    "lb: set database shop",
    "lb: replace the firewall rules",
    "lb: keep the firewall rules",
    "lb: start tercet-app-1@",
    "lb: start tercet-balancer.service",
];

/// Killed at the moments of a first apply in turn.
pub(super) fn first_apply(scenario: &Scenario<'_>) -> Result<()> {
    again_and_again(scenario, FIRST, 6)
}

/// Where an apply is killed.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Operator,
    Machine,
}

/// Killed at every operation of a release, on the operator's side and then on the machine's; no client notices.
pub(super) fn release(scenario: &Scenario<'_>) -> Result<()> {
    let traffic = scenario.traffic(Kind::Read)?;
    for (side, rows, at_least) in [(Side::Operator, 401, 6), (Side::Machine, 403, 3)] {
        scenario.write(FOUR_MACHINES, &format!("api.db-max-rows = {rows}"))?;
        each_operation(scenario, side, &[""], at_least, || begun(scenario))?;
    }
    lossless(&traffic.stop()?)
}

/// Killed where a release is between old and new, on the operator's side and then on the machine's.
pub(super) fn release_halfway(scenario: &Scenario<'_>) -> Result<()> {
    let traffic = scenario.traffic(Kind::Read)?;
    for (side, rows, at, at_least) in
        [(Side::Operator, 404, "lb: put app-2", 1), (Side::Machine, 405, "app1: ", 1)]
    {
        scenario.write(FOUR_MACHINES, &format!("api.db-max-rows = {rows}"))?;
        each_operation(scenario, side, &[at], at_least, || begun(scenario))?;
    }
    lossless(&traffic.stop()?)
}

/// Repeats a change until one gets through, each killed at the first operation at which none was killed before, of those
/// that begin with one of `at`.
pub(super) fn each_operation(
    scenario: &Scenario<'_>,
    side: Side,
    at: &[&str],
    at_least: usize,
    change: impl Fn() -> Result<Command>,
) -> Result<()> {
    let mut killed = BTreeSet::new();
    let mut hits = 0;
    get_through(|| {
        let mut child = change()?.spawn()?;
        let mut printed = String::new();
        let mut hit = false;
        for line in BufReader::new(child.stderr.take().context("standard error is piped")?).lines() {
            let line = line?;
            printed += &format!("{line}\n");
            let Some((_, operation)) = line.strip_prefix('[').and_then(|line| line.split_once("] ")) else {
                continue;
            };
            let is_one = !hit && !line.starts_with("[undo]") && at.iter().any(|at| operation.starts_with(at));
            if !is_one || !killed.insert(operation.to_owned()) {
                continue;
            }
            match side {
                Side::Operator => {
                    kill(&mut child)?;
                    hits += 1;
                    let_leases_run_out(scenario)?;
                    return Ok(false);
                }
                Side::Machine => {
                    let machine = operation.split(':').next().context("an operation names its machine")?;
                    // It may be over already.
                    let there =
                        scenario.on(machine, "pkill -KILL -f '[t]ercet machine' && echo hit || true")?;
                    hit = there.contains("hit");
                    hits += usize::from(hit);
                }
            }
        }
        let success = child.wait()?.success();
        ensure!(success || hit, "{printed}");
        Ok(success && !hit)
    })?;
    ensure!(hits >= at_least, "only {hits} of {killed:#?}");
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("nothing to do"), "there is still:\n{plan}");
    Ok(())
}

/// Applies again and again until one gets through; each takes as long as it takes.
fn get_through(mut attempt: impl FnMut() -> Result<bool>) -> Result<()> {
    for _ in 0..ATTEMPTS {
        if attempt()? {
            return Ok(());
        }
    }
    bail!("no apply got through in {ATTEMPTS} attempts")
}

/// Ended by Ctrl-C in the middle of a release: it prints that and releases its leases, so that the next one need not wait.
pub(super) fn by_ctrl_c(scenario: &Scenario<'_>) -> Result<()> {
    scenario.write(FOUR_MACHINES, "api.db-max-rows = 402")?;
    let mut apply = begun(scenario)?.spawn()?;
    let (mut printed, mut signalled) = (String::new(), false);
    for line in BufReader::new(apply.stderr.take().context("standard error is piped")?).lines() {
        let line = line?;
        if !signalled && line.contains("] app1: start app-1") {
            signal(&apply, "INT")?;
            signalled = true;
        }
        printed += &format!("{line}\n");
    }
    ensure!(signalled && !apply.wait()?.success() && printed.contains("interrupted"), "{printed}");
    for machine in MACHINES {
        let lease = scenario.on(machine.name, "cat /var/lib/tercet/lease.json")?;
        ensure!(lease.contains("\"owner\":\"\""), "{}'s lease was kept: {lease}", machine.name);
    }
    scenario.succeed("apply", &["--yes"])?;
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("nothing to do"), "there is still:\n{plan}");
    Ok(())
}

/// Applies until one gets through, each killed when it comes to one of the moments that are left. A machine finishes
/// a few steps before it notices that the operator has gone, so some moments may be over: `at_least` must not.
fn again_and_again(scenario: &Scenario<'_>, moments: &[&str], at_least: usize) -> Result<()> {
    let mut left = moments;
    let mut killed = Vec::new();
    get_through(|| match outcome(scenario, left)? {
        Outcome::Killed(place) => {
            killed.push(left[place]);
            left = &left[place + 1..];
            let_leases_run_out(scenario)?;
            Ok(false)
        }
        Outcome::Through => Ok(true),
    })?;
    ensure!(killed.len() >= at_least, "killed only at {killed:?}");
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("nothing to do"), "there is still:\n{plan}");
    Ok(())
}

/// What became of an apply.
enum Outcome {
    /// Killed at the moment with this place.
    Killed(usize),
    /// Done before it came to any of the moments.
    Through,
}

/// An apply, to be started and listened to.
pub(super) fn begun(scenario: &Scenario<'_>) -> Result<Command> {
    begun_by(scenario, "apply", &["--yes"])
}

/// A change by another verb, to be started and listened to.
pub(super) fn begun_by(scenario: &Scenario<'_>, verb: &str, arguments: &[&str]) -> Result<Command> {
    let mut change = scenario.tercet(verb, arguments)?;
    change.arg(scenario.project.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    Ok(change)
}

/// Starts an apply and kills it when it comes to one of `moments`.
fn outcome(scenario: &Scenario<'_>, moments: &[&str]) -> Result<Outcome> {
    let mut child = begun(scenario)?.spawn()?;
    let mut printed = String::new();
    for line in BufReader::new(child.stderr.take().context("standard error is piped")?).lines() {
        let line = line?;
        if let Some(place) = moments.iter().position(|moment| line.starts_with(moment)) {
            kill(&mut child)?;
            return Ok(Outcome::Killed(place));
        }
        printed += &format!("{line}\n");
    }
    ensure!(child.wait()?.success(), "{printed}");
    Ok(Outcome::Through)
}

/// No other operator may continue until the lease of the killed one has expired after a minute: that minute is
/// spared here.
pub(super) fn let_leases_run_out(scenario: &Scenario<'_>) -> Result<()> {
    for machine in scenario.lab.on() {
        scenario.on(
            machine.name,
            "cd /var/lib/tercet 2>/dev/null && sed -i 's/\"expires\":[0-9]*/\"expires\":1/' lease.json || true",
        )?;
    }
    Ok(())
}
