//! systemctl(1): requests to the service manager of the machine this runs on.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Runs it and returns what it prints.
///
/// # Errors
/// It fails: the error has the arguments and its message.
pub(crate) fn systemctl(arguments: &[&str]) -> Result<String> {
    let output = Command::new("systemctl").args(arguments).output().context("systemctl")?;
    ensure!(
        output.status.success(),
        "systemctl {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
