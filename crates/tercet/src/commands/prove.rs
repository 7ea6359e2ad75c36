//! `tercet prove`: tests every allowed and forbidden connection, from this computer and from each machine.

use anyhow::anyhow;
use tercet_fleet::prove::{Check, Ports};

use super::backup;
use crate::cli;
use crate::failure::Outcome;
use crate::fleet::{Machines, Spinner, table};

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(crate) fn run(arguments: &cli::Prove) -> Outcome {
    let machines = Machines::of(&arguments.machines)?;
    let spinner = Spinner::new("testing every connection");
    let fleet = machines.open(&spinner, false, &[])?;
    let ports = if arguments.all { Ports::All { per_second: arguments.rate } } else { Ports::Likely };
    let checks = tercet_fleet::prove::prove(&fleet, ports)?;
    spinner.finish();
    print(&checks, arguments.json);
    if arguments.all && !arguments.json {
        println!("and every other TCP port of every address got no answer");
    }
    if let Some(missing) = backup::missing(&machines.project().topology).filter(|_| !arguments.json) {
        print!("{missing}");
    }
    match checks.iter().filter(|check| !check.passed).count() {
        0 => Ok(()),
        failed => Err(anyhow!("{failed} of {} connections are not as expected", checks.len()).into()),
    }
}

/// Prints a line for each edge of the topology and each failed test; counts the rest.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(crate) fn print(checks: &[Check], as_json: bool) {
    if as_json {
        println!("{}", serde_json::to_string_pretty(checks).expect("checks are plain data"));
        return;
    }
    let mut rows =
        vec![["from", "to", "address", "tested", "allowed", "outcome", ""].map(str::to_owned).to_vec()];
    let shown = |check: &&Check| check.allowed || !check.passed || check.what != "tcp";
    for check in checks.iter().filter(shown) {
        rows.push(vec![
            check.from.clone(),
            check.to.clone(),
            check.address.to_string(),
            check.what.clone(),
            if check.allowed { "yes" } else { "no" }.to_owned(),
            check.outcome.clone(),
            match (check.passed, check.tried) {
                (true, true) => "ok",
                (true, false) => "not tried",
                (false, _) => "FAIL",
            }
            .to_owned(),
        ]);
    }
    print!("{}", table(&rows));
    let untried = checks.iter().filter(|check| !shown(check) && !check.tried).count();
    let silent = checks.len() - checks.iter().filter(shown).count() - untried;
    println!("and {silent} forbidden connections got no answer");
    if untried > 0 {
        println!(
            "and {untried} could not be tried: there is no route to these addresses, which proves nothing"
        );
    }
    for check in checks.iter().filter(|check| !check.passed) {
        if let Some(rule) = &check.rule {
            println!("FAIL {} → {} {}: {rule}", check.from, check.to, check.address);
        }
    }
}
