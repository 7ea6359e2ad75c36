//! systemd units: enabled or not, running or not, restarted when what they read has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::{CommandError, output, run};
use crate::file::PathFacts;
use crate::step::Step;

/// Stamps of reloads by unit name: systemd does not keep when a unit was last reloaded.
const RELOADS: &str = "/run/tercet/reloads";

/// A unit as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// With its suffix: `tercet-balancer.service`.
    pub name: String,
    /// Whether it starts at boot; `None` for units that cannot be enabled.
    pub enabled: Option<bool>,
    /// What it does now.
    pub goal: Goal,
    /// Files that it reads only when it starts.
    pub restart_when: Vec<PathBuf>,
    /// Files that it also reads when it is reloaded.
    pub reload_when: Vec<PathBuf>,
}

/// What a unit should be doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// It runs.
    Running,
    /// It does not run.
    Stopped,
    /// There is no such unit of ours.
    Absent,
    /// Whatever it does.
    Any,
}

/// A unit as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitFacts {
    /// Whether it starts at boot.
    pub enabled: bool,
    /// `active`, `inactive`, `failed`, `activating`, …
    pub active: String,
    /// When it was last started, since the Unix epoch.
    pub started: Duration,
    /// When tercet last reloaded it, since the Unix epoch.
    pub reloaded: Duration,
    /// Whether its file is newer than what systemd has read.
    pub stale: bool,
}

/// The facts about each unit; one that does not exist is inactive.
pub(crate) fn probe(units: &[&str]) -> Result<BTreeMap<String, UnitFacts>, CommandError> {
    let mut facts = BTreeMap::new();
    for name in units {
        let properties = "ActiveState,UnitFileState,NeedDaemonReload,InactiveExitTimestamp";
        let shown = run("systemctl", &["show", "--timestamp=us+utc", "--property", properties, "--", name])?;
        let property = |wanted: &str| {
            shown
                .lines()
                .filter_map(|line| line.split_once('='))
                .find(|(key, _)| *key == wanted)
                .map_or("", |pair| pair.1)
        };
        let reloaded = std::fs::metadata(Path::new(RELOADS).join(name))
            .and_then(|metadata| metadata.modified())
            .map_or(Duration::ZERO, |time| time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default());
        facts.insert(
            (*name).to_owned(),
            UnitFacts {
                enabled: matches!(property("UnitFileState"), "enabled" | "enabled-runtime"),
                active: property("ActiveState").to_owned(),
                started: instant(property("InactiveExitTimestamp")),
                reloaded,
                stale: property("NeedDaemonReload") == "yes",
            },
        );
    }
    Ok(facts)
}

/// `Tue 2026-11-24 06:13:00.123456 UTC` since the Unix epoch; zero for a unit that never started.
fn instant(text: &str) -> Duration {
    jiff::fmt::strtime::parse("%a %Y-%m-%d %H:%M:%S%.f UTC", text)
        .and_then(|parsed| parsed.to_datetime())
        .and_then(|datetime| jiff::tz::TimeZone::UTC.to_timestamp(datetime))
        .ok()
        .and_then(|timestamp| Duration::try_from(timestamp.as_duration()).ok())
        .unwrap_or_default()
}

impl Unit {
    /// The steps that bring it there, after the files in `written` have been written.
    pub(crate) fn steps(
        &self,
        facts: &UnitFacts,
        paths: &BTreeMap<PathBuf, PathFacts>,
        written: &BTreeSet<PathBuf>,
    ) -> Vec<Step> {
        let name = self.name.clone();
        let mut steps = Vec::new();
        // Before it is enabled: what systemd refuses would be refused again at every boot.
        if self.goal == Goal::Running && written.contains(&self.file()) {
            steps.push(Step::VerifyUnit { name: name.clone() });
        }
        match self.enabled.filter(|_| self.goal != Goal::Absent) {
            Some(true) if !facts.enabled => steps.push(Step::EnableUnit { name: name.clone() }),
            Some(false) if facts.enabled => steps.push(Step::DisableUnit { name: name.clone() }),
            _ => {}
        }
        let runs = matches!(facts.active.as_str(), "active" | "activating" | "reloading");
        // A file counts when it is about to be written, or was written after the unit last read it: then an
        // earlier run was killed in between.
        let newer = |files: &[PathBuf], since: Duration| {
            files
                .iter()
                .find(|file| {
                    written.contains(*file) || paths.get(*file).is_some_and(|facts| facts.modified > since)
                })
                .map(|file| format!("{} changed", file.display()))
        };
        match self.goal {
            Goal::Stopped if runs => steps.push(Step::StopUnit { name }),
            Goal::Absent if runs || facts.enabled || paths.contains_key(&self.file()) => {
                steps.push(Step::RemoveUnit { name });
            }
            Goal::Any | Goal::Stopped | Goal::Absent => {}
            Goal::Running if !runs => steps.push(Step::StartUnit { name }),
            Goal::Running => {
                if let Some(why) = newer(&self.restart_when, facts.started) {
                    steps.push(Step::RestartUnit { name, why });
                } else if let Some(why) = newer(&self.reload_when, facts.started.max(facts.reloaded)) {
                    steps.push(Step::ReloadUnit { name, why });
                }
            }
        }
        steps
    }

    /// Where a unit of ours has its file.
    pub(crate) fn file(&self) -> PathBuf {
        Path::new("/etc/systemd/system").join(&self.name)
    }
}

/// `systemctl VERB NAME`; when it fails, the end of the unit's log is the reason given.
pub(crate) fn systemctl(verb: &str, name: &str) -> Result<(), CommandError> {
    let Err(error) = run("systemctl", &[verb, "--", name]) else {
        return Ok(());
    };
    let CommandError::Failed { program, status, message } = error else { return Err(error) };
    let log =
        output("journalctl", &["--no-pager", "--quiet", "--output=cat", "--lines=5", "--unit", name], "")?;
    let log = String::from_utf8_lossy(&log.stdout).trim().replace('\n', "; ");
    let message = if log.is_empty() { message } else { format!("{message}; its log ends: {log}") };
    Err(CommandError::Failed { program, status, message })
}

/// Has systemd judge the unit's file (systemd-analyze(1), "verify"): a program that is missing, a path that is not
/// absolute, a line it refuses.
pub(crate) fn verify(name: &str) -> Result<(), CommandError> {
    let path = Path::new("/etc/systemd/system").join(name);
    run("systemd-analyze", &["verify", "--man=no", "--", &path.to_string_lossy()]).map(drop)
}

/// Removes a unit of ours in any state: running, failed, refused by systemd, half removed.
pub(crate) fn remove_unit(name: &str) -> Result<(), crate::execute::ExecuteError> {
    // systemd does not know every unit that has a file: what counts is checked afterwards.
    output("systemctl", &["disable", "--", name], "")?;
    output("systemctl", &["stop", "--", name], "")?;
    let folder = Path::new("/etc/systemd/system");
    // Of a unit it refuses, systemd leaves the links that enabled it.
    let wanted =
        ["multi-user.target.wants", "sockets.target.wants", "timers.target.wants", "sysinit.target.wants"];
    let links = wanted.iter().map(|target| folder.join(target).join(name));
    for path in links.chain([folder.join(name)]) {
        crate::execute::remove(&path).map_err(|source| crate::execute::io(&path, source))?;
    }
    run("systemctl", &["daemon-reload"])?;
    output("systemctl", &["reset-failed", "--", name], "")?;
    let active = output("systemctl", &["is-active", "--", name], "")?;
    match String::from_utf8_lossy(&active.stdout).trim() {
        "active" | "deactivating" | "activating" | "reloading" => Ok(systemctl("stop", name)?),
        _ => Ok(()),
    }
}

/// Reloads the unit and keeps when.
pub(crate) fn reload(name: &str) -> Result<(), crate::execute::ExecuteError> {
    std::fs::create_dir_all(RELOADS).map_err(|source| crate::execute::io(Path::new(RELOADS), source))?;
    let stamp = Path::new(RELOADS).join(name);
    // Before the reload: a file written between the two is then read again rather than missed.
    std::fs::write(&stamp, "").map_err(|source| crate::execute::io(&stamp, source))?;
    Ok(systemctl("reload", name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_instants_are_read_to_the_microsecond() {
        assert_eq!(instant("Thu 1970-01-01 00:00:01.500000 UTC"), Duration::from_millis(1500));
        assert_eq!(instant("n/a"), Duration::ZERO);
        assert_eq!(instant(""), Duration::ZERO);
    }
}
