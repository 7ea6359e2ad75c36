//! Programs that `cargo xtask ci` needs and Rust does not include: exact versions from `xtask/tools.txt`, as Python wheels.

use std::process::Command;

use anyhow::Result;

use crate::packages;
use crate::workspace::Workspace;

/// A command for the tool `name`, which is installed into the target directory first if it is not there.
pub(crate) fn command(workspace: &Workspace, name: &str) -> Result<Command> {
    let folder = packages::python(workspace, "tools", "xtask/tools.txt")?;
    Ok(workspace.command(folder.join("bin").join(name)))
}
