//! What `[system]` of tercet.toml asks of the operating system: how long logs are kept, sshd without passwords, security updates.

use tercet_config::Topology;
use tercet_machine::Desired;
use tercet_machine::directory::Directory;
use tercet_machine::package::Package;
use tercet_machine::path::Owner;
use tercet_machine::unit::{Goal, Unit};

use super::file::public_file;

/// The lines of sshd_config(5) that leave keys as the only way in. The first value of a key counts, and files are read in the order
/// of their names: this one comes before a cloud image's.
const KEYS_ONLY: &str = "# Written by tercet: ssh-keys-only in [system] of tercet.toml.\n\
     PasswordAuthentication no\nKbdInteractiveAuthentication no\n";

/// What makes apt's timers install security updates (apt.conf(5)); Debian and Ubuntu name the sources in
/// `50unattended-upgrades`.
const UPDATES: &str = "// Written by tercet: security-updates in [system] of tercet.toml.\n\
     APT::Periodic::Update-Package-Lists \"1\";\nAPT::Periodic::Unattended-Upgrade \"1\";\n";

/// Adds it to what a machine should be.
pub(super) fn add(desired: &mut Desired, topology: &Topology) {
    let system = topology.system();
    let folder = Directory { path: "/etc/systemd/journald.conf.d".into(), owner: Owner::root(), mode: 0o755 };
    let journal = public_file(
        folder.path.join("60-tercet.conf"),
        format!("[Journal]\nStorage=persistent\nMaxRetentionSec={}day\n", system.keep_logs_days),
    );
    desired.directories.push(folder);
    desired.units.push(running("systemd-journald.service", None, vec![journal.path.clone()], vec![]));
    desired.files.push(journal);
    if system.ssh_keys_only {
        let keys = public_file("/etc/ssh/sshd_config.d/10-tercet.conf", KEYS_ONLY.to_owned());
        desired.units.push(running("ssh.service", None, vec![], vec![keys.path.clone()]));
        desired.files.push(keys);
    }
    if system.security_updates {
        desired.packages.push(Package("unattended-upgrades".to_owned()));
        desired.files.push(public_file("/etc/apt/apt.conf.d/60tercet", UPDATES.to_owned()));
        for timer in ["apt-daily.timer", "apt-daily-upgrade.timer"] {
            desired.units.push(running(timer, Some(true), vec![], vec![]));
        }
    }
}

fn running(
    name: &str,
    enabled: Option<bool>,
    restart_when: Vec<std::path::PathBuf>,
    reload_when: Vec<std::path::PathBuf>,
) -> Unit {
    Unit { name: name.to_owned(), enabled, goal: Goal::Running, restart_when, reload_when }
}
