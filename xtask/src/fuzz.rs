//! The fuzz targets of `fuzz/`, compiled with the stable toolchain and without a sanitizer, each run for a while.
//!
//! New inputs that reach new code are kept in fuzz/corpus, and what crashed a target in fuzz/artifacts; git
//! ignores both. Inputs worth starting from are tracked in fuzz/seeds.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::output;
use crate::workspace::Workspace;
use crate::{packages, prerequisites, tools};

/// How long each target runs.
#[derive(Clone, Copy)]
pub(crate) enum Effort {
    /// So many inputs, and in any case no longer than ten seconds.
    Inputs(u32),
    /// So many seconds.
    Seconds(u32),
}

/// Compiles all targets, runs the one named `only`, or each; returns an error with the output of the first that crashed.
pub(crate) fn run(workspace: &Workspace, only: Option<&str>, limit: Effort) -> Result<()> {
    prerequisites::check(prerequisites::OF_TOOLS)?;
    // The targets are built with the versions the product is built with; cargo adds what they alone need.
    let lock = workspace.root.join("Cargo.lock");
    packages::unless_made_from(&lock, &workspace.target.join("fuzz"), || {
        fs::copy(&lock, workspace.root.join("fuzz/Cargo.lock")).context("fuzz/Cargo.lock cannot be written")
    })?;
    output(&mut cargo_fuzz(workspace, "build")?)?;

    let effort = match limit {
        Effort::Inputs(inputs) => [format!("-runs={inputs}"), "-max_total_time=10".to_owned()],
        Effort::Seconds(seconds) => ["-runs=-1".to_owned(), format!("-max_total_time={seconds}")],
    };
    let list = output(tools::command(workspace, "cargo-fuzz")?.arg("list"))?;
    let names: Vec<_> = list.lines().filter(|name| only.is_none_or(|only| only == *name)).collect();
    if names.is_empty() {
        bail!("no such fuzz target\nhint: these are: {}", list.trim().replace('\n', ", "));
    }
    for name in names {
        let corpus = format!("fuzz/corpus/{name}");
        let seeds = format!("fuzz/seeds/{name}");
        fs::create_dir_all(workspace.root.join(&corpus))?;
        let mut target = cargo_fuzz(workspace, "run")?;
        target.args([name, &corpus]);
        if workspace.root.join(&seeds).is_dir() {
            target.arg(seeds);
        }
        output(target.arg("--").args(&effort)).with_context(|| format!("fuzz target {name}"))?;
        if let Effort::Seconds(seconds) = limit {
            println!("{name}: nothing found in {seconds} s");
        }
    }
    Ok(())
}

fn cargo_fuzz(workspace: &Workspace, verb: &str) -> Result<Command> {
    let mut command = tools::command(workspace, "cargo-fuzz")?;
    command.args([verb, "--dev", "--sanitizer", "none", "--target-dir"]).arg(workspace.target.join("fuzz"));
    Ok(command)
}
