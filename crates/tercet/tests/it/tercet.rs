//! Runs the binary until it exits.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The binary, in a clean environment.
pub(crate) fn command() -> Command {
    command_of(env!("CARGO_BIN_EXE_tercet"))
}

/// Another program, in the same environment.
pub(crate) fn command_of(program: &str) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).env("NO_COLOR", "1").env("COLUMNS", "100");
    command
}

/// Its output: standard output, standard error, and the exit code when it is not 0. `folder` is
/// where it runs, and is shown as DIR.
pub(crate) fn run(folder: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> String {
    let output = command().current_dir(folder).args(arguments).output().unwrap();
    let mut shown = String::from_utf8(output.stdout).unwrap();
    shown.push_str(&String::from_utf8(output.stderr).unwrap());
    if !output.status.success() {
        writeln!(shown, "exit code {}", output.status.code().unwrap()).unwrap();
    }
    let lines: Vec<String> = shown.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    lines.concat().replace(&folder.display().to_string(), "DIR")
}
