//! The checks beside the tests: every step runs and prints one line; the failures are printed at the end.

mod circles;
mod directions;
mod sources;
mod words;

use std::io::Write as _;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::command::output;
use crate::fuzz::Effort;
use crate::workspace::Workspace;
use crate::{fuzz, generate, prerequisites, tools};

/// A step's name and function.
type Step = (&'static str, fn(&Workspace) -> Result<()>);

const STEPS: &[Step] = &[
    ("generated files", generate::check),
    ("formatting", |workspace| {
        cargo(workspace, &["fmt", "--all", "--check"])?;
        cargo(workspace, &["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"])
    }),
    ("lints", |workspace| {
        cargo(workspace, &["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])
    }),
    ("documentation", |workspace| {
        let mut doc = workspace.command("cargo");
        doc.args(["doc", "--workspace", "--no-deps", "--document-private-items"]);
        output(doc.env("RUSTDOCFLAGS", "--deny warnings")).map(drop)
    }),
    ("fuzz targets", |workspace| fuzz::run(workspace, None, Effort::Inputs(20_000))),
    ("spelling", |workspace| output(&mut tools::command(workspace, "typos")?).map(drop)),
    ("bans, licences, sources", |workspace| {
        let mut deny = tools::command(workspace, "cargo-deny")?;
        output(deny.args(["--workspace", "check", "bans", "licenses", "sources"])).map(drop)
    }),
    ("directions", directions::check),
    ("circles", circles::check),
    ("sources", sources::check),
    ("words", words::check),
];

/// Runs the steps whose names begin with one of `only`, or all; returns an error with the output of the failed steps.
pub(crate) fn run(workspace: &Workspace, only: &[String]) -> Result<()> {
    prerequisites::check(prerequisites::OF_TOOLS)?;
    let mut failures = Vec::new();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|begin| name.starts_with(begin.as_str()));
    let steps: Vec<_> = STEPS.iter().filter(|(name, _)| wanted(name)).collect();
    if steps.is_empty() {
        let names: Vec<_> = STEPS.iter().map(|(name, _)| *name).collect();
        bail!("no such step\nhint: these are: {}", names.join("; "));
    }
    for (name, step) in &steps {
        print!("{name:.<28} ");
        std::io::stdout().flush()?;
        let begin = Instant::now();
        let result = step(workspace);
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        println!("{verdict:<6} {:>6.1} s", begin.elapsed().as_secs_f64());
        if let Err(error) = result {
            failures.push(format!("{name}\n{error:#}\n"));
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    bail!("{} of {} steps failed\n\n{}", failures.len(), steps.len(), failures.join("\n"))
}

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Result<()> {
    output(workspace.command("cargo").args(arguments)).map(drop)
}
