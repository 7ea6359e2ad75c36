//! Runs other programs; returns their output on success, and an error with all output on failure.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs `command` without standard input; its standard output, or an error with all it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{name}: cannot be started\nhint: is it installed and on the PATH?"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    bail!("{name}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr))
}

/// Runs `command` with this terminal as its own; an error if it fails.
pub(crate) fn attached(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("{name}: cannot be started"))?;
    if !status.success() {
        bail!("{name}: {status}");
    }
    Ok(())
}
