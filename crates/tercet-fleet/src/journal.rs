//! journalctl(1): the journal of the machine this runs on.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Runs it and returns what it prints: the messages of the journal alone.
///
/// # Errors
/// It fails: the error has its message.
pub(crate) fn messages(arguments: &[&str]) -> Result<String> {
    let output = Command::new("journalctl")
        .args(["--no-pager", "--quiet", "--output=cat"])
        .args(arguments)
        .output()
        .context("journalctl")?;
    ensure!(output.status.success(), "journalctl: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
