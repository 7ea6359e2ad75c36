//! `tercet apply` and `tercet rollback`: plan, confirm, execute the confirmed plan, prove.

use std::io::IsTerminal as _;

use anyhow::bail;
use similar::TextDiff;
use tercet_config::Tier;
use tercet_fleet::Fleet;
use tercet_fleet::execute::{Executed, execute, plan_of};
use tercet_fleet::fleet::WithoutState;
use tercet_fleet::intent::{Consent, Wanted};
use tercet_fleet::plan::ExecutionPlan;
use tercet_fleet::prove::Ports;
use tercet_fleet::state::encryption::Recipients;

use super::{plan, prove, state};
use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Machines, Spinner};
use crate::terminal::confirm;

pub(crate) fn run(arguments: &cli::Apply) -> Outcome {
    let consent = Consent {
        take_over: arguments.take_over,
        new_database: arguments.new_database,
        move_database: false,
    };
    change(&arguments.change, consent.take_over, &arguments.forget, "apply", |fleet| {
        Wanted::apply(fleet, consent)
    })
}

/// `tercet move database`: an apply that brings the data to the machine that the file names.
pub(crate) fn move_database(arguments: &cli::MoveDatabase) -> Outcome {
    let machines = Machines::of(&arguments.change.machines)?;
    let topology = &machines.project().topology;
    let database = topology.machines().iter().find(|it| it.tiers.contains(&Tier::Database));
    if database.is_none_or(|it| it.name != arguments.to) {
        let there = database.map_or("no machine", |it| &it.name);
        return Err(Failure::input_message(format!(
            "tercet.toml puts the database on {there}, not on {}\nhint: give {} the tier \"database\" there, in place of the old \
             machine; then this command moves the data",
            arguments.to, arguments.to
        )));
    }
    let consent = Consent { move_database: true, ..Consent::default() };
    change(&arguments.change, false, &[], "move", |fleet| Wanted::apply(fleet, consent))
}

pub(crate) fn rollback(arguments: &cli::Rollback) -> Outcome {
    let application = arguments.application.clone();
    change(&arguments.change, false, &[], "roll back", |_| Ok(Wanted::rollback(application)))
}

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn change(
    arguments: &cli::Change,
    take_over: bool,
    forget: &[String],
    verb: &str,
    wanted: impl FnOnce(&Fleet<'_>) -> anyhow::Result<Wanted>,
) -> Outcome {
    let machines = Machines::of(&arguments.machines)?;
    let recipients = state::keys(machines.project())?;
    if let Some(kind) = machines.finish_rotation()? {
        println!("{}", kind.outcome());
    }
    let spinner = Spinner::new("looking at the machines");
    let fleet = open(&machines, &spinner, take_over, forget, arguments.yes)?;
    let wanted = wanted(&fleet)?;
    let planned = plan_of(&fleet, &wanted)?;
    spinner.finish();
    plan::check(&planned)?;
    plan::print(&planned, machines.unapplied_migrations()?.as_deref(), false);
    let mut ask = || if arguments.yes { Ok(true) } else { confirm(verb) };
    if !planned.is_empty() && !ask()? {
        return Err(anyhow::anyhow!("nothing was changed").into());
    }
    execute_confirmed(&machines, &fleet, &wanted, planned, recipients.as_ref(), &mut ask)?;
    if machines.interrupted() {
        return Ok(());
    }
    state::push_after_apply(&machines, recipients.as_ref(), take_over)?;
    prove(&fleet)?;
    if let (None, Some(note)) = (recipients, state::unshared(machines.project())?) {
        println!("{note}");
    }
    if let Some(note) = machines.unfinished_rotation()? {
        println!("{note}");
    }
    Ok(())
}

/// Executes the confirmed plan; asks again if the plan has changed meanwhile.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(super) fn execute_confirmed(
    machines: &Machines,
    fleet: &Fleet<'_>,
    wanted: &Wanted,
    mut planned: ExecutionPlan,
    recipients: Option<&Recipients>,
    ask: &mut dyn FnMut() -> Result<bool, Failure>,
) -> Outcome {
    if planned.is_empty() {
        fleet.settle()?;
    }
    while !planned.is_empty() {
        let spinner = Spinner::new("changing the machines");
        let result = execute(fleet, wanted, &planned, &|progress| spinner.print(&progress));
        spinner.finish();
        // The machines may have new secrets that are only in this folder.
        let executed = result.inspect_err(|_| state::push_after_failure(machines, recipients));
        match executed? {
            Executed::Done(failed) => {
                for why in failed {
                    println!("not cleaned up: {why}\nhint: the next apply tries again");
                }
                break;
            }
            Executed::Changed(anew) => {
                show_difference(&planned, &anew);
                plan::check(&anew)?;
                planned = anew;
                if !planned.is_empty() && !ask()? {
                    return Err(anyhow::anyhow!("nothing was changed").into());
                }
            }
        }
    }
    Ok(())
}

/// Prints the difference between the confirmed plan and the new one.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(super) fn show_difference(confirmed: &ExecutionPlan, anew: &ExecutionPlan) {
    println!("the machines have changed since this plan was made; the difference:");
    let (before, after) = (confirmed.to_string(), anew.to_string());
    print!("{}", TextDiff::from_lines(&before, &after).unified_diff().context_radius(1));
}

/// Tests every connection.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(super) fn prove(fleet: &Fleet<'_>) -> Outcome {
    let spinner = Spinner::new("testing every connection");
    let checks = tercet_fleet::prove::prove(fleet, Ports::Likely);
    spinner.finish();
    let checks = checks?;
    let failed = checks.iter().filter(|check| !check.passed).count();
    if failed > 0 {
        prove::print(&checks, false);
        fail_unproven(failed)?;
    }
    println!("proven: {} connections tested, all as expected", checks.len());
    Ok(())
}

/// Opens all machines. If this folder has no operator state and the machines have it, offers to pull it.
#[expect(clippy::print_stderr, reason = "the command is the one place that prints")]
pub(super) fn open<'a>(
    machines: &'a Machines,
    spinner: &'a Spinner,
    take_over: bool,
    forget: &'a [String],
    yes: bool,
) -> Result<Fleet<'a>, Failure> {
    let error = match machines.open(spinner, take_over, forget) {
        Ok(fleet) => return Ok(fleet),
        Err(error) => error,
    };
    let can_be_pulled = error.downcast_ref::<WithoutState>().is_some_and(|it| it.is_on_machines);
    if !can_be_pulled || yes || !std::io::stdin().is_terminal() {
        return Err(error.into());
    }
    spinner.finish();
    eprintln!("{error:#}");
    if !confirm("pull the operator state now")? {
        return Err(anyhow::anyhow!("nothing was changed").into());
    }
    state::pull(machines, &state::Pull::default())?;
    Ok(machines.open(spinner, take_over, forget)?)
}

fn fail_unproven(failed: usize) -> anyhow::Result<()> {
    bail!("{failed} connections are not as expected\nhint: each line above names the rule that decides it")
}
