//! `tercet apply` and `tercet rollback`: plan, confirm, make it so, prove.

use std::io::{IsTerminal as _, Write as _};

use anyhow::bail;
use tercet_fleet::Fleet;
use tercet_fleet::apply::{FleetPlan, execute, plan_release, plan_rollback};

use super::{plan, prove};
use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Machines, Show};

pub(crate) fn run(arguments: &cli::Apply) -> Outcome {
    change(arguments, "apply", plan_release)
}

pub(crate) fn rollback(arguments: &cli::Apply) -> Outcome {
    change(arguments, "roll back", plan_rollback)
}

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn change(
    arguments: &cli::Apply,
    verb: &str,
    plan_of: impl FnOnce(&Fleet<'_>) -> anyhow::Result<FleetPlan>,
) -> Outcome {
    let machines = Machines::of(&arguments.machines)?;
    let show = Show::new("looking at the machines");
    let fleet = machines.open(&show)?;
    let planned = plan_of(&fleet)?;
    show.done();
    plan::check(&planned)?;
    plan::print(&planned, machines.left_to_the_person()?.as_deref(), false);
    if !planned.is_empty() {
        if !arguments.yes && !confirm(verb)? {
            return Err(anyhow::anyhow!("nothing was changed").into());
        }
        let show = Show::new("changing the machines");
        let result = execute(&fleet, &planned, &|progress| show.tell(&progress));
        show.done();
        result?;
    }
    if machines.interrupted() {
        return Ok(());
    }
    let show = Show::new("proving what the picture says");
    let trials = tercet_fleet::prove::prove(&fleet);
    show.done();
    let trials = trials?;
    let failed = trials.iter().filter(|trial| !trial.passed).count();
    if failed > 0 {
        prove::print(&trials, false);
        bail_unproven(failed)?;
    }
    println!("proven: {} connections tried, each as drawn", trials.len());
    Ok(())
}

fn bail_unproven(failed: usize) -> anyhow::Result<()> {
    bail!(
        "{failed} connections are not as drawn\nhint: each line above names the rule that should have decided it"
    )
}

/// Asks on the terminal.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn confirm(verb: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::input_message("nobody is there to confirm\nhint: --yes confirms beforehand"));
    }
    print!("{verb}? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
