//! Running the system's own programs: always by argument list, secrets only by standard input.

use std::io::{self, Write as _};
use std::process::{Command, Output, Stdio};

use thiserror::Error;

/// A program of the system failed.
#[derive(Debug, Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot run {program}: {source}")]
    Start {
        /// The program's name.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It exited with an error.
    #[error("{program} failed ({status}): {message}")]
    Failed {
        /// The program's name and first arguments.
        program: String,
        /// Its exit status.
        status: String,
        /// The last lines of its standard error.
        message: String,
    },
}

/// Runs `program` in the C locale and returns its standard output.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String, CommandError> {
    run_with_input(program, arguments, "")
}

/// Like [`run`], with `input` on standard input.
pub(crate) fn run_with_input(program: &str, arguments: &[&str], input: &str) -> Result<String, CommandError> {
    let output = output(program, arguments, input)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<&str> = errors.lines().filter(|line| !line.trim().is_empty()).collect();
    Err(CommandError::Failed {
        program: [program].iter().chain(arguments.iter().take(2)).copied().collect::<Vec<_>>().join(" "),
        status: output.status.to_string(),
        message: tail[tail.len().saturating_sub(5)..].join("; "),
    })
}

/// Runs `program` and returns all it did, whatever its exit status.
pub(crate) fn output(program: &str, arguments: &[&str], input: &str) -> Result<Output, CommandError> {
    let failed = |source| CommandError::Start { program: program.to_owned(), source };
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut stdin = child.stdin.take().expect("standard input is piped");
    std::thread::scope(|scope| {
        // Feed and read at once: either pipe may fill up. A program that reads no input has its reasons.
        scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
        child.wait_with_output().map_err(failed)
    })
}
