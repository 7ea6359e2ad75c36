//! `tercet plan`: what an apply would change, field by field.

use std::path::Path;

use serde_json::json;
use tercet_fleet::apply::{FleetPlan, plan_release};

use crate::cli;
use crate::failure::{Failure, Outcome};
use crate::fleet::{Machines, Show};

pub(crate) fn run(arguments: &cli::Plan) -> Outcome {
    let machines = Machines::of(&arguments.machines)?;
    let show = Show::new("looking at the machines");
    let fleet = machines.open(&show)?;
    let plan = plan_release(&fleet)?;
    show.done();
    check(&plan)?;
    print(&plan, machines.left_to_the_person()?.as_deref(), arguments.json);
    Ok(())
}

/// Refuses what the balancer would refuse, before anything is changed.
pub(crate) fn check(plan: &FleetPlan) -> Outcome {
    let Some(text) = &plan.balancer else { return Ok(()) };
    match tercet_balancer::Config::parse(text, Path::new("[balancer]")) {
        Ok(_) => Ok(()),
        Err(problems) => Err(Failure::input_message(problems.to_string())),
    }
}

/// Prints a plan on standard output.
#[expect(clippy::print_stdout, reason = "the command is the one place that prints")]
pub(crate) fn print(plan: &FleetPlan, left: Option<&str>, as_json: bool) {
    if as_json {
        println!("{:#}", in_json(plan, left));
        return;
    }
    if let Some(left) = left {
        println!("{left}");
    }
    if plan.is_empty() {
        println!("every machine is as tercet.toml says; nothing to do");
        return;
    }
    for (machine, steps) in &plan.machines {
        println!("{machine}{}", if steps.is_empty() { ": nothing to do" } else { "" });
        for step in steps {
            println!("  {step}");
            for change in step.changes() {
                println!("    {}", change.to_string().replace('\n', "\n    "));
            }
        }
    }
    for (part, from, to) in &plan.releases {
        println!("{part}: release {} → {to}", from.as_deref().unwrap_or("none"));
    }
    for name in &plan.migrations {
        println!("database: migration {name}");
    }
}

/// Without the steps' contents: some are secret.
fn in_json(plan: &FleetPlan, left: Option<&str>) -> serde_json::Value {
    let machines: Vec<_> = plan
        .machines
        .iter()
        .map(|(machine, steps)| {
            let steps: Vec<_> = steps
                .iter()
                .map(|step| json!({ "step": step.to_string(), "changes": step.changes() }))
                .collect();
            json!({ "machine": machine, "steps": steps })
        })
        .collect();
    let releases: Vec<_> = plan
        .releases
        .iter()
        .map(|(part, from, to)| json!({ "part": part, "from": from, "to": to }))
        .collect();
    json!({ "machines": machines, "releases": releases, "migrations": plan.migrations, "left_to_you": left })
}
