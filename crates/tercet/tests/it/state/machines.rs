//! Machines without a lab: an `ssh` that runs commands in a mount namespace, where `/var/lib/tercet` is a folder of that
//! machine.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// The first question is what the machine is, which no namespace can say; tercet's own file need not be copied.
const SSH: &str = r#"#!/bin/sh
while [ "$1" != -- ]; do
    case "$1" in -O) exit 0 ;; esac
    shift
done
machine="MACHINES/$2" command=$3
if [ -e "$machine/off" ]; then echo "ssh: connect to host $2: timed out" >&2; exit 255; fi
case "$command" in
*"sh -s"*) cat >/dev/null; echo "tercet: the output begins"; cat "$machine/system"; exit ;;
*journalctl*) echo "tercet: the output begins"; exec tail --lines=+1 --follow "$machine/journal" ;;
*"test -x"*) echo "tercet: the output begins"; echo there; exit ;;
esac
command=$(printf %s "$command" | sed 's|/usr/local/lib/tercet/[0-9a-f]*/tercet|BINARY|g')
export machine command
exec unshare --mount --map-root-user sh -c '
    mount -t tmpfs tmpfs /var/lib && mkdir /var/lib/tercet && mount --bind "$machine/state" /var/lib/tercet || exit
    if [ -e "$machine/admin.sock" ]; then
        mount -t tmpfs tmpfs /run && mkdir /run/tercet-balancer && ln -s "$machine/admin.sock" /run/tercet-balancer || exit
    fi
    exec sh -c "$command"'
"#;

/// A process that ends with its test.
pub(crate) struct Started(pub(crate) Child);

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Machines by name.
pub(crate) struct Machines {
    folder: TempDir,
}

impl Machines {
    /// Machines of the project with this id.
    pub(crate) fn of(project: &str, names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ssh = SSH
            .replace("MACHINES", &folder.path().display().to_string())
            .replace("BINARY", env!("CARGO_BIN_EXE_tercet"));
        fs::create_dir(folder.path().join("bin")).unwrap();
        fs::write(folder.path().join("bin/ssh"), ssh).unwrap();
        fs::set_permissions(folder.path().join("bin/ssh"), fs::Permissions::from_mode(0o755)).unwrap();
        for name in names {
            let machine = folder.path().join(name);
            fs::create_dir_all(machine.join("state")).unwrap();
            let system = format!(
                "system=debian\nversion=12\nsystemd=yes\nuser=0\narchitecture={}\nmemory=1024\ndisk=999999\n\
                 data=999999\nfree=999999\naddress=10.0.0.1/24 eth0\naddress=10.0.0.2/24 eth0\naddress=10.0.0.9/24 eth0\n\
                 machine-id={name}\nconnection=10.0.0.5 50000 10.0.0.20 22\n",
                std::env::consts::ARCH
            );
            fs::write(machine.join("system"), system).unwrap();
            let identity = format!(
                r#"{{"project":"{project}","name":"shop","machine":"{name}","tiers":[],"authority":"","since":"","data":null}}"#
            );
            fs::write(machine.join("state/identity.json"), identity).unwrap();
            fs::write(machine.join("journal"), "").unwrap();
        }
        Self { folder }
    }

    /// The file a machine keeps the state in.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name).join("state/operator-state")
    }

    /// Adds a line of a unit to a machine's journal.
    pub(crate) fn log(&self, name: &str, unit: &str, message: &str) {
        let entry =
            serde_json::json!({ "__REALTIME_TIMESTAMP": "5", "_SYSTEMD_UNIT": unit, "MESSAGE": message });
        let mut journal =
            fs::File::options().append(true).open(self.folder.path().join(name).join("journal")).unwrap();
        writeln!(journal, "{entry}").unwrap();
    }

    /// Gives a machine the balancer with this admin socket.
    pub(crate) fn balancer(&self, name: &str, socket: &Path) {
        std::os::unix::fs::symlink(socket, self.folder.path().join(name).join("admin.sock")).unwrap();
    }

    /// Takes a machine off the network, or brings it back.
    pub(crate) fn reachable(&self, name: &str, is: bool) {
        let off = self.folder.path().join(name).join("off");
        if is { fs::remove_file(off).unwrap() } else { fs::write(off, "").unwrap() }
    }

    /// Runs tercet in a project's folder on a terminal, by script(1), and types `keys` when it asks; all that is seen.
    pub(crate) fn run_on_terminal(
        &self,
        folder: &Path,
        arguments: &str,
        question: &str,
        keys: &str,
    ) -> String {
        let mut command = Command::new("script");
        command.args(["-qec", &format!("{} {arguments}", env!("CARGO_BIN_EXE_tercet")), "/dev/null"]);
        self.prepare(&mut command, folder);
        let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut typed, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let (mut seen, mut byte) = (Vec::new(), [0]);
        while screen.read(&mut byte).unwrap() == 1 {
            seen.push(byte[0]);
            if seen.ends_with(question.as_bytes()) {
                typed.write_all(keys.as_bytes()).unwrap();
            }
        }
        script.wait().unwrap();
        String::from_utf8_lossy(&seen).into_owned()
    }

    /// Runs tercet in a project's folder, without a terminal: all it says, and its exit code when it is not 0.
    pub(crate) fn run(&self, folder: &Path, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tercet"));
        command.args(arguments);
        self.prepare(&mut command, folder);
        let output = command.stdin(Stdio::null()).output().unwrap();
        let printed =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => printed,
            code => format!("{printed}exit code {}", code.unwrap_or(-1)),
        }
    }

    /// Starts tercet in a project's folder; its output is read by the test.
    pub(crate) fn start(&self, folder: &Path, arguments: &[&str]) -> Started {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tercet"));
        command.args(arguments);
        self.prepare(&mut command, folder);
        Started(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap())
    }

    fn prepare(&self, command: &mut Command, folder: &Path) {
        let path = format!("{}:{}", self.folder.path().join("bin").display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("HOME", folder).env("USER", "ann").env_remove("XDG_CONFIG_HOME");
        command.current_dir(folder).env("NO_COLOR", "1").env("COLUMNS", "1000");
    }
}
