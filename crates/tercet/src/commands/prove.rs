//! `tercet prove`: tests every allowed and forbidden connection, from this computer and from each machine.

use anyhow::anyhow;
use tercet_fleet::prove::Check;

use crate::cli;
use crate::failure::Outcome;
use crate::fleet::{Machines, Spinner, table};

pub(crate) fn run(arguments: &cli::Prove) -> Outcome {
    let machines = Machines::of(&arguments.machines)?;
    let spinner = Spinner::new("testing every connection");
    let fleet = machines.open(&spinner, false, &[])?;
    let trials = tercet_fleet::prove::prove(&fleet)?;
    spinner.finish();
    print(&trials, arguments.json);
    match trials.iter().filter(|trial| !trial.passed).count() {
        0 => Ok(()),
        failed => Err(anyhow!("{failed} of {} connections are not as expected", trials.len()).into()),
    }
}

/// Prints a line for each edge of the topology and each failed test; counts the rest.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(crate) fn print(trials: &[Check], as_json: bool) {
    if as_json {
        println!("{}", serde_json::to_string_pretty(trials).expect("trials are plain data"));
        return;
    }
    let mut rows =
        vec![["from", "to", "address", "tested", "allowed", "outcome", ""].map(str::to_owned).to_vec()];
    let shown = |trial: &&Check| trial.allowed || !trial.passed || trial.what != "tcp";
    for trial in trials.iter().filter(shown) {
        rows.push(vec![
            trial.from.clone(),
            trial.to.clone(),
            trial.address.to_string(),
            trial.what.clone(),
            if trial.allowed { "yes" } else { "no" }.to_owned(),
            trial.outcome.clone(),
            if trial.passed { "ok" } else { "FAIL" }.to_owned(),
        ]);
    }
    print!("{}", table(&rows));
    let silent = trials.len() - trials.iter().filter(shown).count();
    println!("and {silent} forbidden connections got no answer");
    for trial in trials.iter().filter(|trial| !trial.passed) {
        if let Some(rule) = &trial.rule {
            println!("FAIL {} → {} {}: {rule}", trial.from, trial.to, trial.address);
        }
    }
}
