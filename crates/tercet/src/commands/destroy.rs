//! `tercet destroy`: plan, ask for the project's name, take everything down.

use anyhow::{anyhow, bail};
use tercet_fleet::Fleet;
use tercet_fleet::execute::{Executed, execute, plan_of};
use tercet_fleet::intent::Wanted;

use super::apply;
use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Machines, Spinner};
use crate::terminal::ask;

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(crate) fn run(arguments: &cli::Destroy) -> Outcome {
    let machines = Machines::of(&arguments.machines)?;
    if arguments.yes.as_deref().is_some_and(|name| name != machines.name()) {
        return Err(Failure::input_message(format!(
            "--yes names another project than this one, {}\nhint: `--yes {}` destroys it",
            machines.name(),
            machines.name()
        )));
    }
    let spinner = Spinner::new("looking at the machines");
    let fleet = machines.open_to_destroy(&spinner, &arguments.forget)?;
    let wanted = Wanted::destroy(arguments.with_data);
    let mut planned = plan_of(&fleet, &wanted)?;
    spinner.finish();
    print!("{planned}");
    if planned.is_empty() {
        println!("no reachable machine has anything of project {}", machines.name());
        fleet.settle()?;
    }
    while !planned.is_empty() {
        if arguments.yes.is_none() && !confirm(machines.name())? {
            return Err(anyhow!("nothing was changed").into());
        }
        let spinner = Spinner::new("taking the machines down");
        let result = execute(&fleet, &wanted, &planned, &|progress| spinner.print(&progress));
        spinner.finish();
        match result? {
            Executed::Done(failed) if failed.is_empty() => break,
            Executed::Done(failed) => {
                return Err(anyhow!(
                    "{}\nhint: the others are done; run `tercet destroy` again for the rest",
                    failed.join("\n")
                )
                .into());
            }
            Executed::Changed(anew) => {
                apply::show_difference(&planned, &anew);
                planned = anew;
            }
        }
    }
    finish(&fleet).map_err(Failure::from)
}

/// Moves the operator state aside, unless a machine still needs it.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn finish(fleet: &Fleet<'_>) -> anyhow::Result<()> {
    if fleet.has_unreached() {
        bail!(
            "some machines could not be reached; the project's secrets stay in this folder for them\n\
             hint: run `tercet destroy` again when they can be reached, or give one up with `--forget NAME`"
        );
    }
    let there = fleet.move_state_aside()?;
    println!("the secrets and the certificate authority are kept in {}", there.display());
    println!("hint: no machine accepts them any more; delete the folder if you do not need it");
    Ok(())
}

/// Asks for the project's name on the terminal.
fn confirm(name: &str) -> Result<bool, Failure> {
    let answer = ask("to destroy it, type the project's name: ", &format!("--yes {name}"))?;
    Ok(answer == name)
}
