//! What application machines cost: how long each verb takes with 2, 8 and 16 of them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, ensure};

use super::Scenario;
use crate::bench::report::{self, verdict};
use crate::lab::Folders;
use crate::lab::machines::{MORE, Machine};
use crate::workspace::Workspace;

/// The numbers of application machines.
const COUNTS: [usize; 3] = [2, 8, 16];
/// The most seconds with the most machines: of a second apply, and of a proof.
const GOALS: [(usize, f64); 2] = [(2, 10.0), (5, 60.0)];
/// What is measured, in its order.
const MEASURED: [&str; 6] = [
    "survey and plan of bare machines",
    "first apply",
    "second apply",
    "release, one after the other",
    "release, `rollout = \"25%\"`",
    "prove",
];

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The binary to measure, instead of a release build of the workspace; the table is then printed and not written.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// The most application machines.
    #[arg(long, default_value_t = 16)]
    most: usize,
}

/// Measures and writes the part of docs/benchmarks.md.
pub(crate) fn run(workspace: &Workspace, folders: &Folders, arguments: &Arguments) -> Result<()> {
    let built = arguments.binary.is_none().then(|| workspace.build_release()).transpose()?;
    let tercet = arguments.binary.as_ref().or(built.as_ref()).expect("a binary is given or built");
    let mut columns = Vec::new();
    for count in COUNTS.into_iter().filter(|count| *count <= arguments.most) {
        folders.down()?;
        let result = measured(tercet, folders, count);
        folders.down()?;
        columns.push((count, result?));
    }
    let text = text(&columns);
    if arguments.binary.is_none() {
        report::write(workspace, "scale", &text)?;
    }
    println!("{text}");
    Ok(())
}

/// The seconds of each measurement.
fn measured(tercet: &Path, folders: &Folders, count: usize) -> Result<Vec<f64>> {
    let names: Vec<String> = (1..=count).map(|number| format!("app{number}")).collect();
    let applications: Vec<String> = names.iter().map(|name| format!("{name}=application")).collect();
    let tiers = format!("lb=balancer {} db=database", applications.join(" "));
    let scenario = Scenario::begin(folders, tercet, &tiers)?;
    let more: Vec<Machine> = MORE.into_iter().filter(|it| names.iter().any(|name| name == it.name)).collect();
    std::thread::scope(|scope| {
        let starting: Vec<_> =
            more.iter().map(|machine| scope.spawn(|| scenario.lab.start(*machine))).collect();
        starting.into_iter().try_for_each(|thread| thread.join().expect("a start does not panic"))
    })?;
    let mut seconds = Vec::new();
    let mut measure = |verb: &str, arguments: &[&str]| {
        let begin = Instant::now();
        let printed = scenario.succeed(verb, arguments)?;
        seconds.push(begin.elapsed().as_secs_f64());
        println!("{count} application machines: {verb} took {:.1} s", begin.elapsed().as_secs_f64());
        anyhow::Ok(printed)
    };
    measure("plan", &[])?;
    measure("apply", &["--yes"])?;
    let second = measure("apply", &["--yes"])?;
    ensure!(second.contains("nothing to do") || second.contains("proven"), "{second}");
    scenario.write(&tiers, "api.db-max-rows = 500")?;
    measure("apply", &["--yes"])?;
    scenario.write(&tiers, "api.db-max-rows = 600\napplication.rollout = \"25%\"")?;
    measure("apply", &["--yes"])?;
    measure("prove", &[])?;
    Ok(seconds)
}

fn text(columns: &[(usize, Vec<f64>)]) -> String {
    let mut text = String::from(
        "## Many machines\n\nThe whole system in the lab (containers on one host that share all cores, so each machine's own work counts, too): one balancer, one \
         database, and application machines. Seconds; an apply includes its proof.\n\n|",
    );
    // Writing to a String cannot fail.
    for (count, _) in columns {
        let _ = write!(text, " | {count} application machines");
    }
    text += " | goal with 16 | |\n|---|";
    text += &"---|".repeat(columns.len() + 2);
    text.push('\n');
    for (place, name) in MEASURED.iter().enumerate() {
        let _ = write!(text, "| {name} |");
        for (_, seconds) in columns {
            let _ = write!(text, " {:.1} |", seconds[place]);
        }
        let last = columns.last().filter(|(count, _)| *count == 16).map(|(_, seconds)| seconds[place]);
        let goal = GOALS.iter().find(|(goal, _)| *goal == place).map(|(_, goal)| *goal);
        match (goal, last) {
            (Some(goal), Some(last)) => {
                let _ = writeln!(text, " ≤ {goal:.0} | {} |", verdict(last <= goal));
            }
            _ => text += " | |\n",
        }
    }
    text
}
