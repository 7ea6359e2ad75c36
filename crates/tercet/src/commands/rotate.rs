//! `tercet rotate`: phase after phase, each planned and executed like an apply; then proven.

use tercet_fleet::Fleet;
use tercet_fleet::execute::plan_of;
use tercet_fleet::intent::Wanted;
use tercet_fleet::rotation::{Kind, Rotation};

use super::{apply, plan};
use crate::cli;
use crate::failure::Outcome;
use crate::fleet::{Machines, Show};

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
    let was_cut_off_at_its_end = machines.finish_rotation()? == Some(kind);
    let show = Show::new("looking at the machines");
    let mut fleet = machines.open(&show, false)?;
    if was_cut_off_at_its_end {
        show.done();
        return end(&fleet, kind);
    }
    let mut rotation = Rotation::begin(&mut fleet, kind)?;
    let wanted = Wanted::rotate();
    let mut planned = plan_of(&fleet, &wanted)?;
    show.done();
    print!("{}", rotation.runbook());
    let mut ask = || if arguments.yes { Ok(true) } else { apply::confirm("rotate") };
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
        apply::carry_out(&fleet, &wanted, planned, &mut ask)?;
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
    end(&fleet, kind)
}

#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
fn end(fleet: &Fleet<'_>, kind: Kind) -> Outcome {
    apply::prove(fleet)?;
    println!("{}", kind.outcome());
    Ok(())
}
