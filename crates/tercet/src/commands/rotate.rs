//! `tercet rotate`: plans, pushes and executes each phase like an apply; then proves the connections.

use tercet_fleet::Fleet;
use tercet_fleet::execute::plan_of;
use tercet_fleet::intent::Wanted;
use tercet_fleet::rotation::{Kind, Rotation};
use tercet_fleet::state::encryption::Recipients;

use super::{apply, plan, state};
use crate::cli;
use crate::failure::Outcome;
use crate::fleet::{Machines, Spinner};

pub(crate) fn run(what: &cli::Rotate) -> Outcome {
    match what {
        cli::Rotate::Secrets(change) => rotate(change, Kind::Secrets),
        cli::Rotate::Certificates(change) => rotate(change, Kind::Certificates),
        cli::Rotate::Authority(change) => rotate(change, Kind::Authority),
        cli::Rotate::TokenKeys(cli::TokenKeys { change, retire: false }) => rotate(change, Kind::TokenKeys),
        cli::Rotate::TokenKeys(cli::TokenKeys { change, retire: true }) => {
            rotate(change, Kind::RetiredTokenKey)
        }
    }
}

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn rotate(arguments: &cli::Change, kind: Kind) -> Outcome {
    let machines = Machines::of(&arguments.machines)?;
    let recipients = state::keys(machines.project())?;
    let was_interrupted_at_its_end = machines.finish_rotation()? == Some(kind);
    let spinner = Spinner::new("looking at the machines");
    let mut fleet = apply::open(&machines, &spinner, false, &[], arguments.yes)?;
    if was_interrupted_at_its_end {
        spinner.finish();
        return end(&machines, &fleet, kind, recipients.as_ref());
    }
    let mut rotation = Rotation::begin(&mut fleet, kind)?;
    let wanted = Wanted::rotate();
    let mut planned = plan_of(&fleet, &wanted)?;
    spinner.finish();
    print!("{}", rotation.runbook());
    let mut ask = || if arguments.yes { Ok(true) } else { crate::terminal::confirm("rotate") };
    let mut confirmed = false;
    loop {
        plan::check(&planned)?;
        println!("{}:", rotation.heading());
        plan::print(&planned, None, false);
        if !confirmed && !ask()? {
            rotation.abandon()?;
            return Err(anyhow::anyhow!("nothing was changed").into());
        }
        confirmed = true;
        rotation.enter()?;
        // Push before the machines get secrets that are only in this folder.
        state::push_if_shared(&machines, recipients.as_ref())?;
        rotation.read_again(&mut fleet)?;
        apply::execute_confirmed(&machines, &fleet, &wanted, planned, recipients.as_ref(), &mut ask)?;
        if machines.interrupted() {
            if let Some(note) = machines.unfinished_rotation()? {
                println!("{note}");
            }
            return Ok(());
        }
        if !rotation.advance(&mut fleet)? {
            break;
        }
        planned = plan_of(&fleet, &wanted)?;
    }
    end(&machines, &fleet, kind, recipients.as_ref())
}

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn end(machines: &Machines, fleet: &Fleet<'_>, kind: Kind, recipients: Option<&Recipients>) -> Outcome {
    if !state::names_another_authority(machines.project())? {
        state::push_if_shared(machines, recipients)?;
    }
    apply::prove(fleet)?;
    println!("{}", kind.outcome());
    if let (None, Some(note)) = (recipients, state::unshared(machines.project())?) {
        println!("{note}");
    }
    Ok(())
}
