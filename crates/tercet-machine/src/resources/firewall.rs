//! The firewall: tercet's nftables table, replaced in one transaction. A timer on the machine restores the previous rules
//! unless a new connection confirms the replacement.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use similar::TextDiff;

use super::file::{Contents, File};
use super::user;
use crate::change::Change;
use crate::command::{CommandError, output, run, run_with_input};
use crate::error::Error;
use crate::path::{self, Owner};
use crate::resource::{Action, Context, Resource};

/// The rules that [`Firewall::BOOT_UNIT`] loads at boot.
const RULES: &str = "/etc/tercet/firewall.nft";
/// The kernel's listing of the rules when they were made permanent; a different listing is drift.
const LISTING: &str = "/var/lib/tercet/firewall.listing";
/// The kernel's listing of the rules that are not confirmed yet.
const UNCONFIRMED: &str = "/run/tercet/firewall.unconfirmed";
/// The previous rules.
const PREVIOUS: &str = "/run/tercet/firewall.previous";
/// The timer that restores them.
const REVERT: &str = "tercet-firewall-revert";

/// The rules of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firewall {
    /// The body of `table inet tercet { … }` (nft(8)). Users are named as `skuid "NAME"`.
    pub rules: String,
    /// Seconds until the previous rules are restored if the new ones are not confirmed.
    pub revert_seconds: u32,
}

/// The present state of the firewall.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallFacts {
    /// The rules that were made permanent last.
    pub kept: Option<String>,
    /// The kernel's listing of them then.
    pub kept_listing: Option<String>,
    /// The kernel's listing of the rules in force.
    pub listing: Option<String>,
    /// The numbers of the users that the rules name, as far as they exist.
    pub users: BTreeMap<String, u32>,
}

/// Reads the rules in force and those that were kept, and the users that `wanted` names.
fn read(wanted: Option<&Firewall>) -> Result<FirewallFacts, CommandError> {
    let mut users = BTreeMap::new();
    for name in wanted.iter().flat_map(|firewall| firewall.users()) {
        users.extend(user::id(name)?.map(|id| (name.to_owned(), id)));
    }
    Ok(FirewallFacts {
        users,
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

    /// The file of that unit, which runs before any network is up (systemd.special(7), network-pre.target), and after each
    /// start and reload of nftables.service, whose rules begin with a flush of all tables.
    pub fn boot_unit() -> File {
        File {
            path: format!("/etc/systemd/system/{}", Self::BOOT_UNIT).into(),
            contents: Contents::Text(format!(
                "[Unit]\nDescription=tercet: firewall\nDefaultDependencies=no\nBefore=network-pre.target shutdown.target\n\
                 Wants=network-pre.target\nConflicts=shutdown.target\n\
                 After=local-fs.target nftables.service\nPartOf=nftables.service\nReloadPropagatedFrom=nftables.service\nConditionPathExists={RULES}\n\n\
                 [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/sbin/nft -f {RULES}\nExecReload=/usr/sbin/nft -f {RULES}\n\n\
                 [Install]\nWantedBy=sysinit.target nftables.service\n"
            )),
            owner: Owner::root(),
            mode: 0o644,
        }
    }

    /// The users that the rules name: `skuid "NAME"`, also in a set (nft(8), meta expressions).
    fn users(&self) -> BTreeSet<&str> {
        let conditions = self.rules.lines().filter_map(|line| condition(line)?.split_once("skuid "));
        conditions.flat_map(|(_, users)| users.split('"').skip(1).step_by(2)).collect()
    }

    /// A script that replaces the table in one transaction: nft applies a file completely or not at all. Users have their numbers:
    /// the name of a removed user would leave a machine without any rules at its next boot.
    fn script(&self, users: &BTreeMap<String, u32>) -> String {
        let mut rules = String::with_capacity(self.rules.len());
        for line in self.rules.split_inclusive('\n') {
            let condition = condition(line).unwrap_or_default();
            let rest = &line[condition.len()..];
            let numbered = users.iter().fold(condition.to_owned(), |text, (name, id)| {
                text.replace(&format!("\"{name}\""), &id.to_string())
            });
            rules += &numbered;
            rules += rest;
        }
        format!("table inet tercet\ndelete table inet tercet\ntable inet tercet {{\n{rules}}}\n")
    }

    fn changes(&self, facts: &FirewallFacts) -> Vec<Change> {
        let difference = |from: &str, to: &str| {
            TextDiff::from_lines(from, to).unified_diff().context_radius(0).to_string()
        };
        let mut changes = Vec::new();
        let script = self.script(&facts.users);
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

    /// Puts the rules in force and starts the timer that restores the previous ones.
    fn replace(&self) -> Result<(), Error> {
        let previous = list()?.unwrap_or_default();
        let folder = Path::new(PREVIOUS).parent().expect("a file has a folder");
        std::fs::create_dir_all(folder).map_err(Error::change(folder))?;
        // An earlier change is not confirmed yet: its previous rules stay the ones to restore.
        if !reverting()? {
            std::fs::write(PREVIOUS, format!("table inet tercet\ndelete table inet tercet\n{previous}"))
                .map_err(Error::change(Path::new(PREVIOUS)))?;
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
        run_with_input("nft", &["-f", "-"], &self.script(&read(Some(self))?.users))?;
        let listing = list()?.unwrap_or_default();
        std::fs::write(UNCONFIRMED, listing).map_err(Error::change(Path::new(UNCONFIRMED)))
    }

    /// Stops the timer and makes the rules permanent, unless the previous ones are in force again.
    fn keep(&self) -> Result<(), Error> {
        let facts = read(Some(self))?;
        if !reverting()? && self.changes(&facts).is_empty() {
            return Ok(());
        }
        // From here on nothing restores the previous rules but this function.
        stop_reverting()?;
        let file = |path: &str, text: String| File {
            path: path.into(),
            contents: Contents::Text(text),
            owner: Owner::root(),
            mode: 0o600,
        };
        let unconfirmed = std::fs::read_to_string(UNCONFIRMED).ok();
        let Some(listing) = confirmable(list()?, unconfirmed.as_deref()) else {
            // Others may have changed them since; after a reboot there is nothing to restore.
            if Path::new(PREVIOUS).exists() {
                run("nft", &["-f", PREVIOUS])?;
            }
            return Err(Error::Outdated(
                "the previous firewall rules were restored before the new ones were confirmed",
            ));
        };
        for file in [file(RULES, self.script(&facts.users)), file(LISTING, listing)] {
            let folder = file.path.parent().expect("a file has a folder");
            std::fs::create_dir_all(folder).map_err(Error::change(folder))?;
            file.write().map_err(Error::change(&file.path))?;
        }
        Ok(())
    }
}

/// What a rule about users says before its comment.
fn condition(line: &str) -> Option<&str> {
    line.split(" comment \"").next().filter(|condition| condition.contains("skuid "))
}

/// A change to the firewall.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Puts new rules in force; a timer restores the previous ones unless [`Keep`](Self::Keep) follows.
    Replace {
        /// The new rules.
        firewall: Firewall,
        /// The differences.
        changes: Vec<Change>,
    },
    /// Makes the rules permanent. Over ssh: only from a connection that was opened after they came into force.
    Keep {
        /// The rules.
        firewall: Firewall,
    },
    /// Removes the table and the rules that are loaded at boot.
    Remove,
}

impl Resource for Option<Firewall> {
    type Facts = FirewallFacts;
    /// Whether tercet made a table.
    type Record = bool;
    type Step = Step;

    fn probe(&self, recorded: &bool) -> Result<FirewallFacts, Error> {
        if self.is_some() || *recorded { Ok(read(self.as_ref())?) } else { Ok(FirewallFacts::default()) }
    }

    fn diff(&self, _facts: &FirewallFacts, _context: &mut Context<'_>) -> Vec<Step> {
        Vec::new()
    }

    /// The firewall comes after all else: if an earlier step fails, the machine is as reachable as before.
    fn finish(&self, recorded: &bool, facts: &FirewallFacts, _context: &Context<'_>) -> Vec<Step> {
        let mut steps = Vec::new();
        if *recorded && *facts != FirewallFacts::default() {
            steps.push(Step::Remove);
        }
        if let Some(firewall) = self {
            let changes = firewall.changes(facts);
            if !changes.is_empty() {
                steps.push(Step::Replace { firewall: firewall.clone(), changes });
                steps.push(Step::Keep { firewall: firewall.clone() });
            }
        }
        steps
    }

    fn recorded(&self, _files: &BTreeSet<&Path>) -> bool {
        self.is_some()
    }

    fn record(&self, _files: &BTreeSet<&Path>, _originals: &Path, record: &mut bool) -> io::Result<()> {
        *record |= self.is_some();
        Ok(())
    }
}

impl Action for Step {
    fn changes(&self) -> &[Change] {
        match self {
            Self::Replace { changes, .. } => changes,
            Self::Keep { .. } | Self::Remove => &[],
        }
    }

    fn execute(&self, _note: &mut dyn FnMut(&str)) -> Result<(), Error> {
        match self {
            Self::Replace { firewall, .. } => firewall.replace(),
            Self::Keep { firewall } => firewall.keep(),
            Self::Remove => remove(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replace { .. } => write!(f, "replace the firewall rules"),
            Self::Keep { .. } => write!(f, "keep the firewall rules at every boot"),
            Self::Remove => write!(f, "remove the firewall rules"),
        }
    }
}

/// Removes the table, the rules that are loaded at boot, and the timer that would restore previous ones. The unit that
/// loads them is removed like any other.
fn remove() -> Result<(), Error> {
    stop_reverting()?;
    if list()?.is_some() {
        run("nft", &["delete", "table", "inet", "tercet"])?;
    }
    for path in [RULES, LISTING, PREVIOUS, UNCONFIRMED] {
        path::remove(Path::new(path))?;
    }
    Ok(())
}

fn reverting() -> Result<bool, CommandError> {
    Ok(output("systemctl", &["is-active", "--quiet", &format!("{REVERT}.timer")], "")?.status.success())
}

fn stop_reverting() -> Result<(), CommandError> {
    // It fails when there is no such timer.
    output("systemctl", &["stop", &format!("{REVERT}.timer"), &format!("{REVERT}.service")], "").map(drop)
}

/// The listing to keep: that of the rules in force, if they are the unconfirmed ones.
fn confirmable(in_force: Option<String>, unconfirmed: Option<&str>) -> Option<String> {
    in_force.filter(|listing| !listing.is_empty() && unconfirmed == Some(listing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_numbers_as_far_as_they_exist() {
        let rules = "\tmeta skuid \"a\" drop comment \"a\"\n\tmeta skuid \"b\" drop\n\toifname \"a\" accept\n\
                     \tmeta skuid != { 0, \"a\", \"c\" } reject\n";
        let firewall = Firewall { rules: rules.to_owned(), revert_seconds: 60 };
        assert_eq!(firewall.users(), BTreeSet::from(["a", "b", "c"]));
        let script = firewall.script(&BTreeMap::from([("a".to_owned(), 7)]));
        assert!(script.contains("skuid 7 drop comment \"a\""), "{script}");
        assert!(script.contains("skuid \"b\" drop") && script.contains("oifname \"a\""), "{script}");
        assert!(script.contains("!= { 0, 7, \"c\" }"), "{script}");
    }

    #[test]
    fn a_late_confirmation_keeps_nothing() {
        let listing = |text: &str| Some(text.to_owned());
        assert_eq!(confirmable(listing("new"), Some("new")), listing("new"));
        // The timer restored the previous rules: those of an earlier apply, or none.
        assert_eq!(confirmable(listing("previous"), Some("new")), None);
        assert_eq!(confirmable(None, Some("new")), None);
        // The machine was rebooted in between.
        assert_eq!(confirmable(listing("previous"), None), None);
        assert_eq!(confirmable(None, None), None);
    }
}
