//! The project's folders, its files, and cargo's metadata.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::command::output;

/// The project's folders.
pub(crate) struct Workspace {
    /// The folder of the virtual manifest.
    pub(crate) root: PathBuf,
    /// Cargo's target folder, also for the files that these commands create.
    pub(crate) target: PathBuf,
    /// The workspace's crates.
    pub(crate) packages: Vec<Package>,
    /// The version of all of them.
    pub(crate) version: String,
}

/// A crate of the workspace.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) version: String,
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a crate's `[dependencies]`, `[dev-dependencies]` or `[build-dependencies]`.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

impl Workspace {
    /// Asks cargo about the workspace this program was built from.
    pub(crate) fn find() -> Result<Self> {
        let json = output(
            Command::new("cargo")
                .args(["metadata", "--format-version", "1", "--no-deps", "--manifest-path"])
                .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")),
        )?;
        let metadata: Metadata = serde_json::from_str(&json).context("cargo metadata: unknown form")?;
        let version = metadata.packages.first().context("the workspace has no crate")?.version.clone();
        Ok(Self {
            version,
            root: metadata.workspace_root,
            target: metadata.target_directory,
            packages: metadata.packages,
        })
    }

    /// Builds the release binary, which is what is measured.
    ///
    /// # Errors
    /// It cannot be built.
    pub(crate) fn build_release(&self) -> Result<PathBuf> {
        output(self.command("cargo").args(["build", "--release", "--quiet", "--package", "tercet"]))?;
        Ok(self.release())
    }

    /// Where it is then.
    pub(crate) fn release(&self) -> PathBuf {
        self.target.join("release/tercet")
    }

    /// A command that runs in the project's folder, without the variables that `cargo xtask` has set: build
    /// scripts of dependencies would see a change and run again.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        for (name, _) in std::env::vars_os() {
            if name
                .to_str()
                .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
            {
                command.env_remove(name);
            }
        }
        command
    }

    /// The paths, relative to the root, of the files git tracks or would track.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        let list = output(self.command("git").args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
            "--deduplicate",
        ]))?;
        Ok(list.lines().filter(|path| self.root.join(path).is_file()).map(str::to_owned).collect())
    }
}
