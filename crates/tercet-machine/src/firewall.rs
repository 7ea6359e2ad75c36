//! The firewall: one nftables table of our own, replaced in one transaction, and taken back by the machine
//! itself unless whoever replaced it still gets in.

use std::path::Path;

use serde::{Deserialize, Serialize};
use similar::TextDiff;

use crate::command::{CommandError, output, run, run_with_input};
use crate::execute::{ExecuteError, io};
use crate::file::{Contents, File, Owner};
use crate::step::Change;

/// Loaded at boot by the unit that [`Firewall::BOOT_UNIT`] names.
const RULES: &str = "/etc/tercet/firewall.nft";
/// How the kernel listed the rules when they were made permanent: what differs from it is drift.
const LISTING: &str = "/var/lib/tercet/firewall.listing";
/// The rules to return to.
const PREVIOUS: &str = "/run/tercet/firewall.previous";
/// The timer that returns to them.
const REVERT: &str = "tercet-firewall-revert";

/// The rules of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firewall {
    /// The body of `table inet tercet { … }` (nft(8)).
    pub rules: String,
    /// Seconds until the old rules return when nobody confirms the new ones.
    pub revert_seconds: u32,
}

/// The firewall as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallFacts {
    /// The rules made permanent last, as they were given.
    pub kept: Option<String>,
    /// How the kernel listed them then.
    pub kept_listing: Option<String>,
    /// How the kernel lists the rules in force.
    pub listing: Option<String>,
}

/// Reads what is in force and what was kept.
pub(crate) fn probe() -> Result<FirewallFacts, CommandError> {
    Ok(FirewallFacts {
        kept: std::fs::read_to_string(RULES).ok(),
        kept_listing: std::fs::read_to_string(LISTING).ok(),
        listing: list()?,
    })
}

/// The table as the kernel lists it, without counters; `None` without the table or without nft.
fn list() -> Result<Option<String>, CommandError> {
    let output = match output("nft", &["-s", "list", "table", "inet", "tercet"], "") {
        Err(CommandError::Start { .. }) => return Ok(None),
        output => output?,
    };
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

impl Firewall {
    /// The name of the unit that loads the rules at boot.
    pub const BOOT_UNIT: &str = "tercet-firewall.service";

    /// That unit: before any network is up (systemd.special(7), network-pre.target).
    pub fn boot_unit() -> File {
        File {
            path: format!("/etc/systemd/system/{}", Self::BOOT_UNIT).into(),
            contents: Contents::Text(format!(
                "[Unit]\nDescription=tercet: firewall\nDefaultDependencies=no\nBefore=network-pre.target shutdown.target\n\
                 Wants=network-pre.target\nConflicts=shutdown.target\nAfter=local-fs.target\nConditionPathExists={RULES}\n\n\
                 [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/sbin/nft -f {RULES}\n\n\
                 [Install]\nWantedBy=sysinit.target\n"
            )),
            owner: Owner::root(),
            mode: 0o644,
        }
    }

    /// A text that replaces the table in one transaction: nft applies a file whole or not at all.
    fn script(&self) -> String {
        format!("table inet tercet\ndelete table inet tercet\ntable inet tercet {{\n{}}}\n", self.rules)
    }

    /// What differs; empty when the rules in force are these and are kept.
    pub(crate) fn changes(&self, facts: &FirewallFacts) -> Vec<Change> {
        let difference = |from: &str, to: &str| {
            TextDiff::from_lines(from, to).unified_diff().context_radius(0).to_string()
        };
        let mut changes = Vec::new();
        let script = self.script();
        if facts.kept.as_deref() != Some(&script) {
            changes.push(Change::new("rules", "", difference(facts.kept.as_deref().unwrap_or(""), &script)));
        }
        if let Some(kept) = &facts.kept_listing
            && facts.listing.as_ref() != Some(kept)
        {
            changes.push(Change::new(
                "in force",
                "",
                difference(facts.listing.as_deref().unwrap_or(""), kept),
            ));
        } else if facts.listing.is_none() || facts.kept_listing.is_none() {
            changes.push(Change::new("in force", "no rules", "these rules"));
        }
        changes
    }

    /// Puts the rules in force and sets the timer that takes them back.
    pub(crate) fn replace(&self) -> Result<(), ExecuteError> {
        let previous = list()?.unwrap_or_default();
        let folder = Path::new(PREVIOUS).parent().expect("a file has a folder");
        std::fs::create_dir_all(folder).map_err(|source| io(folder, source))?;
        // An earlier, unconfirmed change is still waiting to be taken back: keep what it would return to.
        if !reverting()? {
            std::fs::write(PREVIOUS, format!("table inet tercet\ndelete table inet tercet\n{previous}"))
                .map_err(|source| io(Path::new(PREVIOUS), source))?;
        }
        stop_reverting()?;
        let delay = format!("--on-active={}s", self.revert_seconds);
        run(
            "systemd-run",
            &[
                "--quiet",
                "--collect",
                "--unit",
                REVERT,
                &delay,
                "--timer-property=AccuracySec=100ms",
                "nft",
                "-f",
                PREVIOUS,
            ],
        )?;
        run_with_input("nft", &["-f", "-"], &self.script())?;
        Ok(())
    }

    /// Stops the timer and makes the rules permanent.
    ///
    /// # Errors
    /// The rules were taken back already: replace them again.
    pub(crate) fn keep(&self) -> Result<(), ExecuteError> {
        if !reverting()? && self.changes(&probe()?).is_empty() {
            return Ok(());
        }
        stop_reverting()?;
        let file = |path: &str, text: String| File {
            path: path.into(),
            contents: Contents::Text(text),
            owner: Owner::root(),
            mode: 0o600,
        };
        let listing = list()?.ok_or(ExecuteError::FirewallTakenBack)?;
        for file in [file(RULES, self.script()), file(LISTING, listing)] {
            let folder = file.path.parent().expect("a file has a folder");
            std::fs::create_dir_all(folder).map_err(|source| io(folder, source))?;
            file.write().map_err(|source| io(&file.path, source))?;
        }
        Ok(())
    }
}

/// Removes the table, the rules that are loaded at boot, and the timer that would put back earlier ones. What loads them
/// at boot is a unit like others.
pub(crate) fn remove() -> Result<(), ExecuteError> {
    stop_reverting()?;
    if list()?.is_some() {
        run("nft", &["delete", "table", "inet", "tercet"])?;
    }
    for path in [RULES, LISTING, PREVIOUS] {
        crate::execute::remove(Path::new(path)).map_err(|source| io(Path::new(path), source))?;
    }
    Ok(())
}

fn reverting() -> Result<bool, CommandError> {
    Ok(output("systemctl", &["is-active", "--quiet", &format!("{REVERT}.timer")], "")?.status.success())
}

fn stop_reverting() -> Result<(), CommandError> {
    // Not there is as good as stopped.
    output("systemctl", &["stop", &format!("{REVERT}.timer"), &format!("{REVERT}.service")], "").map(drop)
}
