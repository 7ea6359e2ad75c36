//! `tercet destroy`: plan, have the project's name typed, take everything down.

use anyhow::{anyhow, bail};
use tercet_fleet::Fleet;
use tercet_fleet::execute::{Executed, execute, plan_of};
use tercet_fleet::intent::Wanted;

use super::apply;
use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Machines, Show};
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
    let show = Show::new("looking at the machines");
    let fleet = machines.open_to_destroy(&show, &arguments.forget)?;
    let wanted = Wanted::destroy(arguments.with_data);
    let mut planned = plan_of(&fleet, &wanted)?;
    show.done();
    print!("{planned}");
    if planned.is_empty() {
        println!("no machine that can be reached has anything of project {}", machines.name());
        fleet.settle()?;
    }
    while !planned.is_empty() {
        if arguments.yes.is_none() && !confirm(machines.name())? {
            return Err(anyhow!("nothing was changed").into());
        }
        let show = Show::new("taking the machines down");
        let result = execute(&fleet, &wanted, &planned, &|progress| show.tell(&progress));
        show.done();
        match result? {
            Executed::Done(failed) if failed.is_empty() => break,
            Executed::Done(failed) => {
                return Err(anyhow!(
                    "{}\nhint: the others are done; `tercet destroy` again goes on with what is left",
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

/// The state goes aside once no machine needs it.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn finish(fleet: &Fleet<'_>) -> anyhow::Result<()> {
    if fleet.has_lost() {
        bail!(
            "some machines could not be reached, and the project's secrets stay where they are for them\n\
             hint: `tercet destroy` again when they can be; `--forget NAME` leaves one as it is"
        );
    }
    let there = fleet.move_state_aside()?;
    println!("the secrets and the certificate authority are kept in {}", there.display());
    println!("hint: they open nothing any more; delete the folder when you are sure");
    Ok(())
}

/// Has the project's name typed on the terminal.
fn confirm(name: &str) -> Result<bool, Failure> {
    let answer = ask(
        "to destroy it, type the project's name: ",
        &format!("pass `--yes {name}` to confirm beforehand"),
    )?;
    Ok(answer == name)
}
