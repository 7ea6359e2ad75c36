//! Node packages and Python environments in the target directory, made again only when what they are made from
//! has changed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::command::output;
use crate::prerequisites;
use crate::workspace::Workspace;

/// Copies `source`, a folder with a package-lock.json, into the target directory and installs its packages there.
pub(crate) fn node(workspace: &Workspace, source: &str) -> Result<PathBuf> {
    let folder = workspace.target.join("test-node");
    let source = workspace.root.join(source);
    fs::create_dir_all(&folder)?;
    for entry in source.read_dir().with_context(|| format!("{}: cannot be read", source.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), folder.join(entry.file_name()))?;
        }
    }
    unless_made_from(&source.join("package-lock.json"), &folder, || {
        output(workspace.command("npm").args(["ci", "--ignore-scripts", "--prefix"]).arg(&folder))
    })?;
    Ok(folder)
}

/// The system's Python where it is complete: one in root's home folder is not accessible to the users that tests
/// run programs as.
fn python_command() -> &'static str {
    let system = "/usr/bin/python3";
    if prerequisites::runs(system, prerequisites::HAS_VENV) { system } else { "python3" }
}

/// A virtual environment `name` in the target directory with what the file `requirements` asks for.
pub(crate) fn python(workspace: &Workspace, name: &str, requirements: &str) -> Result<PathBuf> {
    let folder = workspace.target.join(name);
    let requirements = workspace.root.join(requirements);
    unless_made_from(&requirements, &folder, || {
        output(workspace.command(python_command()).args(["-m", "venv", "--clear"]).arg(&folder))?;
        output(
            workspace
                .command(folder.join("bin/pip"))
                .args(["install", "--quiet", "--disable-pip-version-check", "--requirement"])
                .arg(&requirements),
        )
    })?;
    Ok(folder)
}

/// Calls `make` unless `folder` was last made from a file equal to `source`.
pub(crate) fn unless_made_from<T>(
    source: &Path,
    folder: &Path,
    make: impl FnOnce() -> Result<T>,
) -> Result<()> {
    let stamp = folder.join("made-from");
    let wanted = fs::read(source).with_context(|| format!("{}: cannot be read", source.display()))?;
    if fs::read(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    make()?;
    fs::create_dir_all(folder)?;
    fs::write(&stamp, wanted).with_context(|| format!("{}: cannot be written", stamp.display()))
}
