//! A program to run, as a plain value: the supervisor decides how to start it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use crate::account::Account;

/// A program with its arguments, environment, directory and account. It contains no secret.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments, without its own name.
    pub arguments: Vec<OsString>,
    /// Its whole environment: it inherits nothing.
    pub environment: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub folder: PathBuf,
    /// The account it runs as.
    pub account: Account,
}

impl Program {
    /// The command that runs it as a child process, dropping root privileges where necessary.
    pub fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.path);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().cloned())
            .current_dir(&self.folder);
        if self.account.is_another() {
            command.uid(self.account.uid).gid(self.account.gid);
        }
        command
    }
}
