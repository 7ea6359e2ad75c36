//! A fleet of two releases of Debian, and what `[system]` asks of both.

use anyhow::{Result, ensure};

use super::holes::mended;
use super::{Named, Scenario, exposure};
use crate::lab::base;
use crate::lab::machines::NEXT;

/// Debian 12 with the balancer and an application server, Debian 13 with another and the database (PostgreSQL 17).
pub(super) const MIXED: &str = "lb=balancer app1=application next=application+database";

pub(super) const FIRST: &str = "Debian 12 and 13 in one fleet: bare machines to answered requests";
pub(super) const SYSTEM: &str = "sshd without passwords, security updates, logs: on and off again";

pub(super) const STAGES: &[Named] = &[(FIRST, applied), (SYSTEM, system)];

fn applied(scenario: &Scenario<'_>) -> Result<()> {
    base::build_root(scenario.lab.folders, NEXT.debian)?;
    scenario.lab.start(NEXT)?;
    let printed = scenario.succeed("apply", &["--yes"])?;
    ensure!(printed.contains("proven:"), "apply does not end with proof:\n{printed}");
    ensure!(scenario.get("/event")?.contains("[{\"number\":0"), "no answer");
    let versions = scenario.succeed_on("application", &["cat", "/etc/debian_version"])?;
    ensure!(versions.contains("app1: 12.") && versions.contains("next: 13."), "{versions}");
    let exposure = exposure(scenario, "next", "postgresql@17-main.service")?;
    ensure!(exposure <= 4.0, "postgresql@17-main.service: exposure {exposure}");
    scenario.on("next", "runuser -u postgres -- psql -qc 'create role intruder superuser' -c 'create role helper' -c 'grant postgres to helper'")?;
    mended(scenario)?;
    scenario.lab.reboot(NEXT)?;
    super::faults::healthy(scenario)?;
    scenario.succeed("prove", &[]).map(drop)
}

/// What sshd says of passwords.
const PASSWORDS: &str = "sshd -T | grep -E '^(password|kbdinteractive)authentication' | sort";

fn system(scenario: &Scenario<'_>) -> Result<()> {
    // As a cloud image has it: the first value counts, and tercet's file comes first.
    for machine in ["lb", "next"] {
        scenario.on(machine, "echo 'PasswordAuthentication yes' >/etc/ssh/sshd_config.d/50-cloud-init.conf; systemctl reload ssh")?;
    }
    scenario
        .write(MIXED, "[system]\nkeep-logs = \"10 days\"\nssh-keys-only = true\nsecurity-updates = true")?;
    mended(scenario)?;
    for machine in ["lb", "next"] {
        let said = scenario.on(machine, PASSWORDS)?;
        ensure!(said == "kbdinteractiveauthentication no\npasswordauthentication no\n", "{machine}: {said}");
        let updates = scenario.on(
            machine,
            "apt-config dump APT::Periodic::Unattended-Upgrade; systemctl is-active apt-daily-upgrade.timer; \
                                            grep MaxRetentionSec /etc/systemd/journald.conf.d/60-tercet.conf",
        )?;
        ensure!(
            updates == "APT::Periodic::Unattended-Upgrade \"1\";\nactive\nMaxRetentionSec=10day\n",
            "{machine}: {updates}"
        );
    }
    scenario.write(MIXED, "")?;
    mended(scenario)?;
    for machine in ["lb", "next"] {
        let said = scenario.on(machine, PASSWORDS)?;
        ensure!(said.contains("passwordauthentication yes"), "{machine}: the option is off, and {said}");
    }
    Ok(())
}
