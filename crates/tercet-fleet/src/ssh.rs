//! The operator's OpenSSH, with its configuration, agent, jump hosts and known hosts. Host keys are always
//! checked, and nothing ever asks for a password: remote commands run as root, by sudo where ssh logs in as
//! another user.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

/// Seconds until a machine that does not answer is given up.
const CONNECT_SECONDS: u32 = 10;

/// The options of ssh, and the folder of the connections that commands share.
#[derive(Debug)]
pub struct Ssh {
    config: Option<PathBuf>,
    sockets: TempDir,
}

/// Words as one shell command that means exactly them.
pub fn shell_words(words: &[String]) -> String {
    words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect::<Vec<_>>().join(" ")
}

/// The line before the output of a command. What comes earlier is a greeting of the login shell.
const MARKER: &str = "tercet: the output begins";

/// A command that runs as root, by sudo where ssh logs in as another user. It keeps standard input and `SSH_CONNECTION`,
/// which sudo would drop, and prints [`MARKER`] first. It depends on nothing of the account: any login shell can execute it,
/// files are made with the usual modes (umask(2)), and the system's programs are found.
fn as_root(command: &str) -> String {
    as_root_after(&format!("echo \"{MARKER}\"; "), command)
}

/// The same with another beginning.
fn as_root_after(beginning: &str, command: &str) -> String {
    let environment = "umask 022; PATH=\"$PATH:/usr/local/sbin:/usr/sbin:/sbin\"; export PATH; ";
    let command = shell_words(&[format!("{environment}{command}")]);
    let script = format!(
        "{beginning}c={command}; [ \"$(id -u)\" = 0 ] && exec sh -c \"$c\"; \
         exec sudo -n -- env SSH_CONNECTION=\"$SSH_CONNECTION\" sh -c \"$c\""
    );
    format!("exec sh -c {}", shell_words(&[script]))
}

/// The output of a command, after the greeting of a login shell.
#[derive(Debug, Default)]
struct Output {
    /// What came before the marker.
    greeting: String,
    /// Whether the command has begun.
    begun: bool,
}

impl Output {
    /// Whether a line is the command's.
    fn takes(&mut self, line: &str) -> bool {
        if self.begun {
            return true;
        }
        self.begun = line == MARKER;
        // A forced command or a login shell that refuses to run explains itself in a few lines.
        if !self.begun && self.greeting.len() < 1024 {
            self.greeting.push_str(line);
            self.greeting.push('\n');
        }
        false
    }
}

/// How ssh gets to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The host name or address that it connects to.
    pub host: String,
    /// Whether it connects from here, without a jump host or another command in between.
    pub is_direct: bool,
}

impl Route {
    /// Reads what `ssh -G` prints: a line for each option.
    fn read(text: &str) -> Option<Self> {
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        let is_set = |key: &str| value(key).is_some_and(|it| it != "none");
        let is_direct = !is_set("proxyjump") && !is_set("proxycommand");
        Some(Self { host: value("hostname")?.to_owned(), is_direct })
    }
}

/// A command that has failed on a machine and printed no reason.
#[derive(Debug)]
pub(crate) struct Silent {
    /// The machine.
    pub(crate) machine: String,
    /// Its exit status.
    pub(crate) status: ExitStatus,
}

impl std::error::Error for Silent {}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.machine, self.status)
    }
}

/// A machine, reached by ssh.
#[derive(Debug)]
pub struct Remote<'a> {
    ssh: &'a Ssh,
    /// What the machine is called in tercet.toml.
    pub name: &'a str,
    destination: &'a str,
}

/// A running command on a machine; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Started<'a> {
    remote: &'a Remote<'a>,
    child: Child,
}

impl Started<'_> {
    /// What it prints; once.
    pub(crate) fn stdout(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.child.stdout.take().expect("standard output is piped"))
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    /// As [`Remote::run`].
    pub(crate) fn end(&mut self) -> Result<()> {
        let mut errors = Vec::new();
        if let Some(stderr) = self.child.stderr.take() {
            stderr.take(64 << 10).read_to_end(&mut errors)?;
        }
        self.remote.judge(self.child.wait()?, String::from_utf8_lossy(&errors).trim())
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Ssh {
    /// Ends the connections that commands shared; each would go on for a minute.
    fn drop(&mut self) {
        let sockets = std::fs::read_dir(self.sockets.path()).into_iter().flatten().flatten();
        for socket in sockets {
            let mut path = std::ffi::OsString::from("ControlPath=");
            path.push(socket.path());
            // It may have ended already.
            let _ = Command::new("ssh")
                .args(["-F", "none", "-O", "exit", "-o"])
                .arg(path)
                .args(["--", "any"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
}

impl Ssh {
    /// `config` replaces the operator's ssh configuration (`ssh -F`).
    ///
    /// # Errors
    /// No folder can be made for the shared connections.
    pub fn new(config: Option<PathBuf>) -> Result<Self> {
        // The path of a Unix socket is at most 108 bytes, of which ssh takes 57 for the name: not in the project's folder,
        // nor in one that TMPDIR names.
        let sockets =
            tempfile::Builder::new().prefix("tercet-").tempdir_in("/tmp").context("no temporary folder")?;
        Ok(Self { config, sockets })
    }

    /// The machine at `destination` (`user@host` or a name of the ssh configuration).
    pub fn to<'a>(&'a self, name: &'a str, destination: &'a str) -> Remote<'a> {
        Remote { ssh: self, name, destination }
    }
}

impl Remote<'_> {
    /// How ssh gets to the machine, by its configuration (`ssh -G`).
    ///
    /// # Errors
    /// ssh cannot be run or does not understand its configuration.
    pub fn route(&self) -> Result<Route> {
        let output =
            self.ssh_command(&["-G"]).arg("--").arg(self.destination).output().context("cannot run ssh")?;
        Route::read(&String::from_utf8_lossy(&output.stdout))
            .with_context(|| format!("{}: ssh -G does not tell its host name", self.name))
    }

    /// Runs a shell command on the machine with `input` on its standard input and returns its standard output.
    ///
    /// # Errors
    /// The machine cannot be reached, or the command fails; the error has the machine's name and the end of the output.
    pub fn run(&self, command: &str, input: &[u8]) -> Result<String> {
        let mut output = String::new();
        self.converse(command, input, |line| {
            output.push_str(line);
            output.push('\n');
            Ok(())
        })?;
        Ok(output)
    }

    /// Runs a shell command on the machine and calls `each` with every line of its standard output.
    ///
    /// # Errors
    /// As [`run`](Self::run), and what `each` returns.
    pub fn converse(&self, command: &str, input: &[u8], each: impl FnMut(&str) -> Result<()>) -> Result<()> {
        let path = format!("ControlPath={}", self.ssh.sockets.path().join("%C").display());
        let shared = ["-o", "ControlMaster=auto", "-o", &path, "-o", "ControlPersist=60"];
        let child = self.spawn(&shared, command)?;
        self.talk(child, input, each)
    }

    /// Like [`converse`](Self::converse), over a new connection: proof that the machine still accepts one.
    ///
    /// # Errors
    /// As [`converse`](Self::converse).
    pub fn converse_anew(
        &self,
        command: &str,
        input: &[u8],
        each: impl FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let child = self.spawn(&["-o", "ControlPath=none"], command)?;
        self.talk(child, input, each)
    }

    /// Runs a shell command on the machine with this process's standard input, output and error, byte for byte.
    ///
    /// # Errors
    /// The machine cannot be reached, or the command fails.
    pub fn connect(&self, command: &str) -> Result<()> {
        let status = self
            .ssh_command(&["-o", "ControlPath=none"])
            .arg("--")
            .arg(self.destination)
            .arg(as_root_after("", command))
            .status()
            .context("cannot run ssh\nhint: install the OpenSSH client")?;
        self.judge(status, "")
    }

    fn spawn(&self, options: &[&str], command: &str) -> Result<Child> {
        self.ssh_command(options)
            .arg("--")
            .arg(self.destination)
            .arg(as_root(command))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run ssh\nhint: install the OpenSSH client")
    }

    fn ssh_command(&self, options: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        if let Some(config) = &self.ssh.config {
            command.arg("-F").arg(config);
        }
        command
            .args(["-T", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"])
            .args(["-o", &format!("ConnectTimeout={CONNECT_SECONDS}")])
            .args(["-o", "RemoteCommand=none", "-o", "ClearAllForwardings=yes"])
            .args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3", "-o", "LogLevel=ERROR"])
            .args(options);
        command
    }

    fn talk(&self, mut child: Child, input: &[u8], mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
        let mut stdin = child.stdin.take().expect("standard input is piped");
        let stdout = child.stdout.take().expect("standard output is piped");
        let mut stderr = child.stderr.take().expect("standard error is piped");
        let mut output = Output::default();
        let (result, errors) = std::thread::scope(|scope| {
            // All three at once: any pipe may fill up. A command that reads no input explains why on standard error.
            scope.spawn(move || drop(stdin.write_all(input)));
            let errors = scope.spawn(move || {
                let mut text = Vec::new();
                // With ControlPersist the background connection keeps standard error open: one read of what
                // came is enough there, the exit status ends the wait.
                let _ = (&mut stderr).take(64 << 10).read_to_end(&mut text);
                String::from_utf8_lossy(&text).trim().to_owned()
            });
            let result = BufReader::new(stdout).lines().try_for_each(|line: io::Result<String>| {
                let line = line?;
                if output.takes(&line) { each(&line) } else { Ok(()) }
            });
            (result, errors.join().unwrap_or_default())
        });
        let status = child.wait()?;
        result?;
        if !output.begun && status.code() != Some(255) {
            let Self { name, destination, .. } = self;
            let said = [output.greeting.trim(), &errors].join(" ");
            bail!(
                "{name}: the account of {destination} runs no commands: {}\nhint: its login shell, or a forced command of its key, \
                 must let `ssh {destination} true` run",
                said.trim()
            );
        }
        self.judge(status, &errors)
    }

    /// The result of a command, from its exit status and standard error.
    fn judge(&self, status: ExitStatus, errors: &str) -> Result<()> {
        let Self { name, destination, .. } = self;
        match status.code() {
            Some(0) => Ok(()),
            // ssh's message is a screen long.
            Some(255) if errors.contains("REMOTE HOST IDENTIFICATION HAS CHANGED") => bail!(
                "{name}: its host key differs from the one in your known_hosts ({destination}); nothing was sent\n\
                 hint: if it was reinstalled, `ssh-keygen -R` its name and `ssh` there once, comparing the key; else the connection \
                 is intercepted"
            ),
            Some(255) if errors.contains("Host key verification failed") => bail!(
                "{name}: its host key is not in your known_hosts ({destination})\n\
                 hint: `ssh {destination}` once, comparing the key"
            ),
            Some(255) if errors.contains("Permission denied") => bail!(
                "{name}: SSH authentication failed ({destination}): {errors}\nhint: `ssh {destination}` has to work without a password"
            ),
            Some(255) => bail!("{name}: cannot be reached by ssh ({destination}): {errors}"),
            _ if errors.contains("sudo:")
                && (errors.contains("password") || errors.contains("not found"))
                || errors.contains("sudoers") =>
            {
                bail!(
                    "{name}: {destination} cannot become root there: {errors}\n\
                 hint: ssh as root, or let that user run everything by sudo without a password (NOPASSWD)"
                )
            }
            _ if errors.is_empty() => bail!(Silent { machine: (*name).to_owned(), status }),
            _ => bail!("{name}: {errors}"),
        }
    }

    /// Starts a shell command that runs until it is killed, over a new connection.
    ///
    /// # Errors
    /// ssh cannot be run.
    pub(crate) fn start(&self, command: &str) -> Result<Started<'_>> {
        let mut child = self.spawn(&["-o", "ControlPath=none"], command)?;
        drop(child.stdin.take());
        Ok(Started { remote: self, child })
    }

    /// Copies a file there, to a path that must not be taken half: it appears whole or not at all.
    ///
    /// # Errors
    /// It cannot be read here or written there.
    pub fn upload(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let bytes = std::fs::read(from).with_context(|| from.display().to_string())?;
        let folder = to.rsplit_once('/').map_or("/", |(folder, _)| folder);
        let command = format!(
            "set -e; mkdir -p '{folder}'; new=$(mktemp '{folder}/.new-XXXXXX'); trap 'rm -f \"$new\"' EXIT; \
             cat >\"$new\"; chmod {mode:o} \"$new\"; sync \"$new\"; mv \"$new\" '{to}'"
        );
        self.run(&command, &bytes).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a command as `user` would over there, where sudo only says that it was asked.
    fn check(user: &str, command: &str, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let programs = [
            ("id", format!("echo {user}")),
            ("sudo", "echo sudo $1 $2; shift 2; exec env -u SSH_CONNECTION \"$@\"".to_owned()),
        ];
        for (name, script) in programs {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let mut path = folder.path().as_os_str().to_owned();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        let output = Command::new("sh")
            // As of an account whose files are private (pam_umask(8)).
            .args(["-c", &format!("umask 077; {}", as_root(command))])
            .env("PATH", path)
            .env("SSH_CONNECTION", "1.2.3.4 5")
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{MARKER}\n{expected}"));
    }

    #[test]
    fn a_route_is_direct_without_a_jump_host() {
        let route = |text: &str| Route::read(text).map(|it| (it.host, it.is_direct));
        let host = |is_direct| Some(("10.0.0.11".to_owned(), is_direct));
        assert_eq!(route("user root\nhostname 10.0.0.11\nport 22\n"), host(true));
        assert_eq!(route("hostname 10.0.0.11\nproxyjump root@lb\n"), host(false));
        assert_eq!(route("hostname 10.0.0.11\nproxycommand nc %h %p\n"), host(false));
        assert_eq!(route("hostname 10.0.0.11\nproxycommand none\n"), host(true));
        assert_eq!(route("user root\n"), None);
    }

    #[test]
    fn a_greeting_before_the_output_is_no_output() {
        let mut output = Output::default();
        let lines = ["Welcome to app1", "", MARKER, "one", MARKER];
        let taken: Vec<&str> = lines.into_iter().filter(|line| output.takes(line)).collect();
        assert_eq!(taken, ["one", MARKER]);
        assert!(output.greeting.starts_with("Welcome"));
    }

    #[test]
    fn commands_run_as_root_for_every_login_user() {
        let command = "echo 'it''s' \"$((1 + 1))\" $SSH_CONNECTION";
        check("0", command, "its 2 1.2.3.4 5\n");
        check("1000", command, "sudo -n --\nits 2 1.2.3.4 5\n");
        check("1000", "umask", "sudo -n --\n0022\n");
    }
}
