//! A command of a release, such as its build or its migration, as a user that owns nothing else: systemd runs it in a transient unit,
//! and kills the processes that it leaves running.
//!
//! Runs on the machine, as root.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The system user that it runs as.
pub(crate) const USER: &str = "tercet-build";

/// Lines of a failed command's output that are reported.
const TAIL: usize = 20;

/// What the command may not do (systemd.exec(5)). It may use the network, and write to a private /tmp.
const PROPERTIES: &[&str] = &[
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "InaccessiblePaths=-/etc/tercet",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectProc=invisible",
    "NoNewPrivileges=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
    "CapabilityBoundingSet=",
    "RemoveIPC=yes",
    "UMask=0022",
    "TasksMax=4096",
    "LimitCORE=0",
];

/// A command and what it has besides.
#[derive(Debug)]
pub(crate) struct Sandbox<'a> {
    /// What it does, for the error: `build`.
    pub name: &'a str,
    /// What it may do to files, for the error.
    pub files: &'a str,
    /// Its unit, see [`unit()`].
    pub unit: String,
    /// The folder that it runs in.
    pub folder: &'a Path,
    /// Further properties of the unit. No secret may be in them.
    pub properties: Vec<String>,
    /// Its environment variables. No secret may be in them.
    pub variables: Vec<(String, String)>,
    /// A text that must not be in the error.
    pub hidden: Option<&'a str>,
}

/// The name of a command's unit.
pub(crate) fn unit(name: &str) -> String {
    format!("tercet-build-{name}.service")
}

/// Stops the commands whose operator has disconnected.
pub(crate) fn stop_all() -> Result<()> {
    let mut stop = Command::new("systemctl");
    let stopped = stop.args(["stop", "--", "tercet-build-*.service"]).stderr(Stdio::null()).status();
    // Units that are not loaded are none to stop.
    stopped.map(drop).context("systemctl")
}

impl Sandbox<'_> {
    /// Runs a command.
    ///
    /// # Errors
    /// It fails; its last lines are in the error.
    pub(crate) fn run(&self, words: &[String]) -> Result<()> {
        let output = self.command(words).stdin(Stdio::null()).output().context("systemd-run")?;
        if output.status.success() {
            return Ok(());
        }
        let mut said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if let Some(hidden) = self.hidden.filter(|it| !it.is_empty()) {
            said = said.replace(hidden, "…");
        }
        let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        bail!(
            "{} failed ({}): it runs as {USER}, {}\n{}",
            self.name,
            output.status,
            self.files,
            lines[lines.len().saturating_sub(TAIL)..].join("\n")
        )
    }

    fn command(&self, words: &[String]) -> Command {
        let mut run = Command::new("systemd-run");
        run.args(["--quiet", "--wait", "--pipe", "--collect", "--service-type=exec", "--unit", &self.unit]);
        run.arg(format!("--property=User={USER}"));
        for property in PROPERTIES.iter().copied().chain(self.properties.iter().map(String::as_str)) {
            run.arg(format!("--property={property}"));
        }
        run.arg(format!("--property=WorkingDirectory={}", self.folder.display()));
        for (name, value) in &self.variables {
            run.arg(format!("--setenv={name}={value}"));
        }
        // systemd would replace variables (systemd.service(5), "Command lines").
        run.arg("--").args(words.iter().map(|word| word.replace('$', "$$")));
        // systemd-run finds a relative program from here.
        run.current_dir(self.folder);
        run
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_limited_and_runs_as_a_user_that_owns_nothing() {
        let sandbox = Sandbox {
            name: "build",
            files: "which may write to HOME",
            unit: unit("abc"),
            folder: Path::new("/srv/program"),
            properties: vec!["ReadWritePaths=/srv/program".to_owned()],
            variables: vec![("HOME".to_owned(), "/srv/home".to_owned())],
            hidden: None,
        };
        let command = sandbox.command(&["make".to_owned(), "$all".to_owned()]);
        let arguments: Vec<&str> = command.get_args().filter_map(|it| it.to_str()).collect();
        for argument in [
            "tercet-build-abc.service",
            "--property=User=tercet-build",
            "--property=ProtectSystem=strict",
            "--property=InaccessiblePaths=-/etc/tercet",
            "--property=CapabilityBoundingSet=",
            "--property=ReadWritePaths=/srv/program",
            "--property=WorkingDirectory=/srv/program",
            "--setenv=HOME=/srv/home",
        ] {
            assert!(arguments.contains(&argument), "{argument}: {arguments:?}");
        }
        assert!(arguments.ends_with(&["--", "make", "$$all"]), "{arguments:?}");
        assert_eq!(command.get_current_dir(), Some(Path::new("/srv/program")));
    }
}
