//! Not measured yet.

use anyhow::{Result, bail};

use crate::workspace::Workspace;

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// Measures and writes docs/benchmarks.md.
pub(crate) fn run(_workspace: &Workspace, _arguments: &Arguments) -> Result<()> {
    bail!("the api bench is not written yet")
}
