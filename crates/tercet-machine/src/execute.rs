//! Doing one step.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::command::{CommandError, run};
use crate::desired::Desired;
use crate::step::Step;
use crate::unit::{reload, remove_unit, systemctl, verify};
use crate::{cluster, firewall, inventory, package, sysctl, user};

/// A step could not be done.
#[derive(Debug, Error)]
pub enum ExecuteError {
    /// A program of the system failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file or directory could not be changed.
    #[error("cannot change {path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The firewall rules to keep are no longer in force.
    #[error("the firewall rules were taken back before they were confirmed\nhint: apply again")]
    FirewallTakenBack,
}

pub(crate) fn io(path: &Path, source: std::io::Error) -> ExecuteError {
    ExecuteError::Io { path: path.to_owned(), source }
}

/// Does `step`, one of `plan(desired, …)`. Each is atomic where the system allows and safe to repeat. `note` hears
/// what a long step waits for.
///
/// # Errors
/// It failed; what was there before still is, or the next plan finds what is half done.
pub fn execute(step: &Step, desired: &Desired, note: &mut dyn FnMut(&str)) -> Result<(), ExecuteError> {
    let port = desired.cluster.as_ref().map_or(5432, |cluster| cluster.port);
    match step {
        Step::InstallPackages { names } => package::install(names, note)?,
        Step::CreateUser { name } => user::create(name)?,
        Step::MakeDirectory { directory, .. } => {
            directory.make().map_err(|source| io(&directory.path, source))?;
        }
        Step::WriteFile { file, .. } => file.write().map_err(|source| io(&file.path, source))?,
        Step::Remove { path } => remove(path).map_err(|source| io(path, source))?,
        Step::RestoreFile { path, copy } => {
            inventory::restore(path, copy).map_err(|source| io(path, source))?;
        }
        Step::RemoveDirectory { path } => {
            inventory::remove_directory(path).map_err(|source| io(path, source))?;
        }
        Step::RemoveUser { name } => user::remove(name)?,
        Step::SetSysctl { sysctl, .. } => sysctl::set(sysctl)?,
        Step::ReloadSystemd => run("systemctl", &["daemon-reload"]).map(drop)?,
        Step::EnableUnit { name } => systemctl("enable", name)?,
        Step::DisableUnit { name } => systemctl("disable", name)?,
        Step::StartUnit { name } => systemctl("start", name)?,
        Step::StopUnit { name } => systemctl("stop", name)?,
        Step::VerifyUnit { name } => verify(name)?,
        Step::RemoveUnit { name } => remove_unit(name)?,
        Step::RestartUnit { name, .. } => systemctl("restart", name)?,
        Step::ReloadUnit { name, .. } => reload(name)?,
        Step::EnsureRole { role, .. } => cluster::execute(port, &role.sql())?,
        Step::EnsureDatabase { database, .. } => cluster::execute(port, &database.sql())?,
        Step::ReplaceFirewall { firewall, .. } => firewall.replace()?,
        Step::RemoveFirewall => firewall::remove()?,
        Step::KeepFirewall { firewall } => firewall.keep()?,
    }
    Ok(())
}

/// Removes a file, a link, or a folder with all that is in it.
pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    match if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) } {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
