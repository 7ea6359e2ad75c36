//! `tercet plan`: shows what an apply would do, operation by operation.

use serde_json::json;
use tercet_fleet::execute::plan_of;
use tercet_fleet::intent::{Consent, Wanted};
use tercet_fleet::plan::ExecutionPlan;

use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Machines, Spinner};

pub(crate) fn run(arguments: &cli::Plan) -> Outcome {
    let consent = Consent {
        take_over: arguments.take_over,
        new_database: arguments.new_database,
        move_database: false,
    };
    let machines = Machines::of(&arguments.machines)?;
    let spinner = Spinner::new("looking at the machines");
    let fleet = machines.open(&spinner, arguments.take_over, &arguments.forget)?;
    let plan = plan_of(&fleet, &Wanted::apply(&fleet, consent)?)?;
    spinner.finish();
    check(&plan)?;
    print(&plan, machines.unapplied_migrations()?.as_deref(), arguments.json);
    Ok(())
}

/// Validates the balancer's configuration before anything is changed.
pub(crate) fn check(plan: &ExecutionPlan) -> Outcome {
    let Some(text) = &plan.balancer else { return Ok(()) };
    tercet_balancer::Config::parse(text, "[balancer]").map_err(Failure::input)?;
    Ok(())
}

/// Prints a plan on standard output.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(crate) fn print(plan: &ExecutionPlan, unapplied: Option<&str>, as_json: bool) {
    if as_json {
        println!("{:#}", in_json(plan, unapplied));
        return;
    }
    if let Some(unapplied) = unapplied {
        println!("{unapplied}");
    }
    if plan.is_empty() {
        println!("nothing to do: every machine is as tercet.toml describes it");
    }
    print!("{plan}");
}

/// The plan as JSON, without the steps' contents, which may be secret.
fn in_json(plan: &ExecutionPlan, unapplied: Option<&str>) -> serde_json::Value {
    let operations: Vec<_> = plan
        .operations()
        .map(|operation| {
            let steps = operation.steps().iter();
            let steps: Vec<_> =
                steps.map(|step| json!({ "step": step.to_string(), "changes": step.changes() })).collect();
            json!({ "machine": operation.machine, "operation": operation.to_string(), "steps": steps })
        })
        .collect();
    json!({ "operations": operations, "notes": plan.notes, "left_to_you": unapplied })
}
