//! Machines as people have them, not as they are freshly made: what can be found is found before anything changes, all at once, and
//! what need not matter does not.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{FOUR_MACHINES, Named, Scenario, nothing_to_do};
use crate::lab::machines::Machine;

pub(super) const STAGES: &[Named] = &[
    ("machines as people have them: all that is wrong is named, nothing touched", refused),
    ("umask, greetings, no main cluster, other firewalls: bare machines to answers", applied),
    ("nftables.service reloads and starts at boot: the rules stay", reloaded),
    ("a late firewall confirmation keeps nothing", late),
];

/// What does not matter: (machine, command).
const HABITS: &[(&str, &str)] = &[
    (
        "lb",
        "echo 'echo Welcome to lb' >>~/.bashrc; echo 'Banner /etc/motd' >/etc/ssh/sshd_config.d/banner.conf; \
            echo 'No trespassing' >/etc/motd; systemctl reload ssh",
    ),
    ("app1", "chsh -s /bin/dash root; printf 'Defaults secure_path=/bin:/usr/bin\n' >/etc/sudoers.d/path"),
    (
        "app2",
        "echo 'session optional pam_umask.so umask=0077' >>/etc/pam.d/sshd; echo 'umask 077' >>/etc/profile; \
              echo 'cd /nowhere; echo; fortune' >>~debian/.bashrc",
    ),
    (
        "db",
        "echo 'session optional pam_umask.so umask=0077' >>/etc/pam.d/sshd; mkdir -p /etc/postgresql-common; \
            echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf; \
            printf '#!/usr/sbin/nft -f\nflush ruleset\ntable inet filter {\nchain input { type filter hook input priority filter; }\n}\n' \
            >/etc/nftables.conf",
    ),
];

/// What is wrong: (machine, command, how it is mended, what the survey says).
const WRONG: &[(&str, &str, &str, &str)] = &[
    (
        "lb",
        "systemd-run --quiet --unit squatter python3 -m http.server 80; until ss -Hltn | grep -q :80; do sleep .05; done",
        "systemctl stop squatter",
        "port 80 is in use by python3, and balancer needs it",
    ),
    (
        "app2",
        "sed -i '/^Package: sudo$/,/^$/s/^Status: .*/Status: install ok half-configured/' /var/lib/dpkg/status",
        "dpkg --configure -a",
        "packages are half installed: sudo",
    ),
    ("db", "mount -t tmpfs -o size=1m tmpfs /usr/local", "umount /usr/local", "are free in /usr/local"),
];

fn refused(scenario: &Scenario<'_>) -> Result<()> {
    for (machine, command) in HABITS {
        scenario.on(machine, &format!("bash -c {}", quoted(command)))?;
    }
    for (machine, command, ..) in WRONG {
        scenario.on(machine, &format!("bash -c {}", quoted(command)))?;
    }
    scenario.write(FOUR_MACHINES, "")?;
    let file = scenario.project.path().join("tercet.toml");
    let text = std::fs::read_to_string(&file)?;
    // An address that app1 does not have.
    let address = Machine::named("app1")?.address();
    std::fs::write(&file, text.replace(&address, "10.77.0.77"))?;
    let printed = scenario.fail("apply", &["--yes"])?;
    std::fs::write(&file, &text)?;
    for (machine, _, _, said) in WRONG {
        ensure!(printed.contains(said), "{machine} is not refused: {said}\n{printed}");
    }
    ensure!(printed.contains("app1 cannot be used: it does not have the address 10.77.0.77"), "{printed}");
    for (machine, _, mend, _) in WRONG {
        let touched = scenario
            .on(machine, "ls -d /etc/tercet /usr/local/lib/tercet /var/lib/tercet 2>/dev/null || true")?;
        ensure!(!touched.contains("/tercet"), "{machine} was touched: {touched}");
        scenario.on(machine, mend)?;
    }
    Ok(())
}

fn applied(scenario: &Scenario<'_>) -> Result<()> {
    let printed = scenario.succeed("apply", &["--yes"])?;
    ensure!(printed.contains("proven:"), "apply does not end with proof:\n{printed}");
    ensure!(scenario.get("/event")?.contains("[{\"number\":0"), "no answer");
    nothing_to_do(scenario)?;
    let locale = scenario
        .on("db", "runuser -u postgres -- psql -Atqc 'show data_checksums' -c 'show lc_collate' shop")?;
    ensure!(locale == "on\nC.UTF-8\n", "the created cluster has {locale}");
    Ok(())
}

fn reloaded(scenario: &Scenario<'_>) -> Result<()> {
    let table = "nft list table inet tercet | grep -c 'dport 5432'";
    let before = scenario.on("db", table)?;
    for command in ["enable --now nftables", "reload nftables", "restart nftables"] {
        scenario.on("db", &format!("systemctl {command}"))?;
        ensure!(scenario.on("db", table)? == before, "after systemctl {command}, the rules are gone");
    }
    scenario.lab.reboot(Machine::named("db")?)?;
    ensure!(scenario.on("db", table)? == before, "after a boot, the rules are gone");
    // lb greets, so its servers cannot be read by `healthy`.
    scenario.answered(Duration::from_secs(60))?;
    scenario.succeed("prove", &[]).map(drop)
}

/// The timer that restores the previous rules has run when the confirmation comes.
fn late(scenario: &Scenario<'_>) -> Result<()> {
    scenario.write(FOUR_MACHINES, "firewall.ssh-from = [\"10.77.0.0/24\"]")?;
    let printed = with_revert(scenario)?;
    ensure!(
        printed.contains("the previous firewall rules were restored before the new ones were confirmed"),
        "a late confirmation was accepted:\n{printed}"
    );
    let plan = scenario.succeed("plan", &[])?;
    ensure!(
        plan.contains("replace the firewall rules"),
        "the plan does not show the previous rules:\n{plan}"
    );
    super::holes::mended(scenario)
}

/// An apply on whose machine app1 the previous rules are restored as soon as the new ones are in force, as if 60 seconds had passed.
fn with_revert(scenario: &Scenario<'_>) -> Result<String> {
    scenario.on(
        "app1",
        "systemd-run --quiet --unit impatient sh -c 'until grep -q 10.77.0.0/24 /run/tercet/firewall.unconfirmed; do :; done; \
         systemctl stop tercet-firewall-revert.timer; nft -f /run/tercet/firewall.previous'",
    )?;
    scenario.fail("apply", &["--yes"])
}

/// A command as one word of a shell.
fn quoted(command: &str) -> String {
    format!("'{}'", command.replace('\'', "'\\''"))
}
