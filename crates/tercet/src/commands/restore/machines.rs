//! Restores of the database on the project's machines.

use anyhow::anyhow;
use tercet_database::RecoveryTarget;
use tercet_fleet::backup::Task;
use tercet_fleet::execute::{Executed, execute, plan_of};
use tercet_fleet::intent::{Restore, Wanted};

use crate::cli;
use crate::commands::apply::show_difference;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Machines, Spinner};
use crate::terminal::ask;

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(super) fn run(arguments: &cli::Restore, target: Option<&RecoveryTarget>) -> Outcome {
    let machines = Machines::of(&arguments.machines)?;
    let restore = match target {
        Some(target) if arguments.replace => Restore::Replace(target.clone()),
        Some(target) => Restore::Beside(target.clone()),
        None if arguments.undo => Restore::Undo,
        None => Restore::Drop,
    };
    check_name(arguments, machines.name())?;
    let spinner = Spinner::new("looking at the machines");
    let fleet = machines.open(&spinner, false, &[])?;
    let wanted = Wanted::restore(restore.clone());
    let mut planned = plan_of(&fleet, &wanted)?;
    spinner.finish();
    print!("{planned}");
    if planned.is_empty() {
        println!("there is nothing to remove");
        return Ok(());
    }
    let harmless =
        matches!(restore, Restore::Beside(_)) || (restore == Restore::Drop && planned.notes.is_empty());
    loop {
        if !harmless && arguments.yes.is_none() && !confirm(&restore, machines.name())? {
            return Err(anyhow!("nothing was changed").into());
        }
        let spinner = Spinner::new("restoring");
        let result = execute(&fleet, &wanted, &planned, &|progress| spinner.print(&progress));
        spinner.finish();
        match result? {
            Executed::Done(_) => break,
            Executed::Changed(anew) => {
                show_difference(&planned, &anew);
                planned = anew;
            }
        }
    }
    match restore {
        Restore::Beside(_) => await_copy(&machines, &fleet),
        Restore::Replace(_) | Restore::Undo => {
            println!(
                "the database is replaced; `tercet restore --undo` returns to the one before, `tercet restore --drop` removes its data"
            );
            println!("hint: `tercet plan` shows the migrations that are pending in it now");
            Ok(())
        }
        Restore::Drop => Ok(()),
    }
}

/// Waits until the copy is there; the lines of its task say where.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn await_copy(machines: &Machines, fleet: &tercet_fleet::Fleet<'_>) -> Outcome {
    let topology = &machines.project().topology;
    let machine = &topology.backup_machine().ok_or_else(|| anyhow!("the project has no backups"))?.name;
    let spinner = Spinner::new("restoring the copy");
    let mut look = None;
    let copied = fleet.await_task(machine, &Task::Copy, &mut |line| {
        match line.strip_prefix("look at it: ") {
            Some(command) => look = Some(command.to_owned()),
            None => spinner.line(line),
        }
        Ok(())
    });
    spinner.finish();
    copied?;
    println!("the copy is on {machine}, for a day or until `tercet restore --drop`");
    if let Some(command) = look {
        println!("look at it: tercet exec {machine} -- {command} -c 'select …'");
    }
    Ok(())
}

/// Refuses `--yes` with the name of another project.
fn check_name(arguments: &cli::Restore, name: &str) -> Result<(), Failure> {
    match arguments.yes.as_deref() {
        Some(yes) if yes != name => Err(Failure::input_message(format!(
            "--yes names another project than this one, {name}\nhint: `--yes {name}` restores its database"
        ))),
        _ => Ok(()),
    }
}

/// Asks for the project's name on the terminal.
fn confirm(restore: &Restore, name: &str) -> Result<bool, Failure> {
    let what = if *restore == Restore::Drop { "to remove this data" } else { "to replace the database" };
    let answer = ask(&format!("{what}, type the project's name: "), &format!("--yes {name}"))?;
    Ok(answer == name)
}
