//! `tercet apply` and `tercet rollback`: plan, confirm, execute what was confirmed, prove.

use std::io::IsTerminal as _;

use anyhow::bail;
use similar::TextDiff;
use tercet_fleet::Fleet;
use tercet_fleet::execute::{Executed, execute, plan_of};
use tercet_fleet::fleet::WithoutState;
use tercet_fleet::intent::{Consent, Wanted};
use tercet_fleet::plan::ExecutionPlan;
use tercet_fleet::state::encryption::Recipients;

use super::{plan, prove, state};
use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Machines, Show};
use crate::terminal::ask;

pub(crate) fn run(arguments: &cli::Apply) -> Outcome {
    let consent = Consent { take_over: arguments.take_over, new_database: arguments.new_database };
    change(&arguments.change, consent.take_over, &arguments.forget, "apply", |fleet| {
        Wanted::apply(fleet, consent)
    })
}

pub(crate) fn rollback(arguments: &cli::Change) -> Outcome {
    change(arguments, false, &[], "roll back", |_| Ok(Wanted::rollback()))
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
    let show = Show::new("looking at the machines");
    let fleet = open(&machines, &show, take_over, forget, arguments.yes)?;
    let wanted = wanted(&fleet)?;
    let planned = plan_of(&fleet, &wanted)?;
    show.done();
    plan::check(&planned)?;
    plan::print(&planned, machines.left_to_the_person()?.as_deref(), false);
    let mut ask = || if arguments.yes { Ok(true) } else { confirm(verb) };
    if !planned.is_empty() && !ask()? {
        return Err(anyhow::anyhow!("nothing was changed").into());
    }
    carry_out(&machines, &fleet, &wanted, planned, recipients.as_ref(), &mut ask)?;
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

/// Executes what was confirmed; asks again when there is something else to do meanwhile.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(super) fn carry_out(
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
        let show = Show::new("changing the machines");
        let result = execute(fleet, wanted, &planned, &|progress| show.tell(&progress));
        show.done();
        // The machines may have secrets by now that only this folder has.
        let executed = result.inspect_err(|_| state::push_after_failure(machines, recipients));
        match executed? {
            Executed::Done(failed) => {
                for why in failed {
                    println!("not cleaned up: {why}\nhint: the next apply goes on with it");
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

/// Says what a plan made anew does otherwise than the one that was confirmed.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(super) fn show_difference(confirmed: &ExecutionPlan, anew: &ExecutionPlan) {
    println!("the machines have changed since this plan was made; it now differs so:");
    let (before, after) = (confirmed.to_string(), anew.to_string());
    print!("{}", TextDiff::from_lines(&before, &after).unified_diff().context_radius(1));
}

/// Tries every connection.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(super) fn prove(fleet: &Fleet<'_>) -> Outcome {
    let show = Show::new("proving what the picture says");
    let trials = tercet_fleet::prove::prove(fleet);
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

/// Reaches all machines. Where only the operator state is missing and the machines keep it, offers to pull it.
#[expect(clippy::print_stderr, reason = "the command is the one place that prints")]
pub(super) fn open<'a>(
    machines: &'a Machines,
    show: &'a Show,
    take_over: bool,
    forget: &'a [String],
    yes: bool,
) -> Result<Fleet<'a>, Failure> {
    let error = match machines.open(show, take_over, forget) {
        Ok(fleet) => return Ok(fleet),
        Err(error) => error,
    };
    let can_be_pulled = error.downcast_ref::<WithoutState>().is_some_and(|it| it.is_on_machines);
    if !can_be_pulled || yes || !std::io::stdin().is_terminal() {
        return Err(error.into());
    }
    show.done();
    eprintln!("{error:#}");
    if !confirm("pull the operator state now")? {
        return Err(anyhow::anyhow!("nothing was changed").into());
    }
    state::pull(machines, &state::Pull::default())?;
    Ok(machines.open(show, take_over, forget)?)
}

fn bail_unproven(failed: usize) -> anyhow::Result<()> {
    bail!(
        "{failed} connections are not as drawn\nhint: each line above names the rule that should have decided it"
    )
}

/// Asks on the terminal.
pub(super) fn confirm(verb: &str) -> Result<bool, Failure> {
    let answer = ask(&format!("{verb}? [y/N] "), "pass --yes to confirm beforehand")?;
    Ok(matches!(&*answer, "y" | "Y" | "yes"))
}
