//! systemd units: enabled or disabled, running or stopped, restarted or reloaded when a file that they read has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::command::{CommandError, output, run};
use crate::due::Due;
use crate::error::Error;
use crate::path;
use crate::resource::{Action, Context, Resource};

/// Where units of tercet have their files.
const FOLDER: &str = "/etc/systemd/system";

/// A file per reloaded unit, whose modification time is the time of the reload: systemd does not keep it.
const RELOADS: &str = "/run/tercet/reloads";

/// A unit as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// With its suffix: `tercet-balancer.service`.
    pub name: String,
    /// Whether it starts at boot; `None` for units that cannot be enabled.
    pub enabled: Option<bool>,
    /// Its desired state now.
    pub goal: Goal,
    /// Files that it reads only when it starts.
    pub restart_when: Vec<PathBuf>,
    /// Files that it also reads when it is reloaded.
    pub reload_when: Vec<PathBuf>,
}

/// The desired state of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// It runs.
    Running,
    /// It does not run.
    Stopped,
    /// It is removed, with its file.
    Absent,
    /// Any state.
    Any,
}

/// The present state of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitFacts {
    /// Whether systemd knows it: its file is there.
    #[serde(default)]
    pub exists: bool,
    /// Whether it starts at boot.
    pub enabled: bool,
    /// `active`, `inactive`, `failed`, `activating`, …
    pub active: String,
    /// When it was last started, since the Unix epoch.
    pub started: Duration,
    /// When tercet last reloaded it, since the Unix epoch.
    pub reloaded: Duration,
    /// Whether its file has changed since systemd read it.
    pub stale: bool,
}

impl Unit {
    fn steps(&self, facts: &UnitFacts, context: &Context<'_>) -> Vec<Step> {
        let name = self.name.clone();
        let mut steps = Vec::new();
        // Before it is enabled: a unit that systemd refuses would be refused again at every boot.
        if self.goal == Goal::Running && context.written.contains(&self.file()) {
            steps.push(Step::Verify { name: name.clone() });
        }
        match self.enabled.filter(|_| self.goal != Goal::Absent) {
            Some(true) if !facts.enabled => steps.push(Step::Enable { name: name.clone() }),
            // One that does not exist yet comes with a package of the same plan, which enables it.
            Some(false) if facts.enabled || !facts.exists => steps.push(Step::Disable { name: name.clone() }),
            _ => {}
        }
        let runs = matches!(facts.active.as_str(), "active" | "activating" | "reloading");
        // A file counts when an earlier step writes it, or when it was written after the unit last read it: then an
        // earlier run was interrupted in between.
        let newer = |files: &[PathBuf], since: Duration| {
            let is_newer = |file: &&PathBuf| {
                context.written.contains(*file)
                    || context.paths.get(*file).is_some_and(|facts| facts.modified > since)
            };
            files.iter().find(is_newer).map(|file| format!("{} changed", file.display()))
        };
        let due = |due: Due, since| {
            newer(&[due.mark(&self.name)], since).map(|_| "a file of its settings was moved away".to_owned())
        };
        match self.goal {
            Goal::Stopped if runs => steps.push(Step::Stop { name }),
            Goal::Absent => steps.extend(removal(&name, facts, context)),
            Goal::Any | Goal::Stopped => {}
            Goal::Running if !runs => steps.push(Step::Start { name }),
            Goal::Running => {
                let read = facts.started.max(facts.reloaded);
                let restart =
                    newer(&self.restart_when, facts.started).or_else(|| due(Due::Restart, facts.started));
                if let Some(why) = restart {
                    steps.push(Step::Restart { name, why });
                } else if let Some(why) = newer(&self.reload_when, read).or_else(|| due(Due::Reload, read)) {
                    steps.push(Step::Reload { name, why });
                }
            }
        }
        steps
    }

    /// The path of its file, if it is a unit of tercet.
    fn file(&self) -> PathBuf {
        file(&self.name)
    }
}

/// The path of the file of one of tercet's units.
pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// The step that removes a unit of tercet, in whatever state it is.
fn removal(name: &str, facts: &UnitFacts, context: &Context<'_>) -> Option<Step> {
    let runs = matches!(facts.active.as_str(), "active" | "activating" | "reloading");
    let is_present = runs || facts.enabled || context.paths.contains_key(&file(name));
    is_present.then(|| Step::Remove { name: name.to_owned() })
}

/// A change to a unit, or to systemd's view of all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "every `name` is the unit's, every `why` the file that changed")]
pub enum Step {
    /// `systemctl daemon-reload`.
    ReloadSystemd,
    /// `systemd-analyze verify`, before anything depends on the unit.
    Verify { name: String },
    /// `systemctl enable`.
    Enable { name: String },
    /// `systemctl disable`.
    Disable { name: String },
    /// `systemctl start`.
    Start { name: String },
    /// `systemctl stop`.
    Stop { name: String },
    /// `systemctl restart`.
    Restart { name: String, why: String },
    /// `systemctl reload`.
    Reload { name: String, why: String },
    /// Stops and disables a unit of tercet and removes its file.
    Remove { name: String },
}

impl Resource for Vec<Unit> {
    /// Facts by unit name; a unit that does not exist is inactive.
    type Facts = BTreeMap<String, UnitFacts>;
    /// The files that a unit reads, by its name. A unit whose own file is not among the recorded files is not tercet's.
    type Record = BTreeMap<String, BTreeSet<PathBuf>>;
    type Step = Step;

    fn paths(&self, recorded: &Self::Record) -> Vec<(PathBuf, bool)> {
        // A file that was removed from a directory changed the directory's modification time.
        let parents = recorded.values().flatten().filter_map(|path| path.parent()).map(Path::to_owned);
        let marks = self.iter().flat_map(|unit| [Due::Reload, Due::Restart].map(|due| due.mark(&unit.name)));
        self.removed().into_iter().chain(parents).chain(marks).map(|path| (path, false)).collect()
    }

    fn probe(&self, recorded: &Self::Record) -> Result<Self::Facts, Error> {
        let names = self.iter().map(|unit| &unit.name).chain(recorded.keys());
        Ok(names.map(|name| Ok((name.clone(), read(name)?))).collect::<Result<_, CommandError>>()?)
    }

    fn diff(&self, facts: &Self::Facts, context: &mut Context<'_>) -> Vec<Step> {
        let mut steps = Vec::new();
        let is_unit_file = |path: &PathBuf| path.starts_with(FOLDER);
        let is_changed = context.written.iter().chain(&context.removed).any(is_unit_file);
        if is_changed || facts.values().any(|unit| unit.stale) {
            steps.push(Step::ReloadSystemd);
        }
        let unknown = UnitFacts::default();
        for unit in self {
            steps.extend(unit.steps(facts.get(&unit.name).unwrap_or(&unknown), context));
        }
        steps
    }

    fn removal(recorded: &Self::Record, facts: &Self::Facts, context: &mut Context<'_>) -> Vec<Step> {
        let mut steps = Vec::new();
        let unknown = UnitFacts::default();
        for name in recorded.keys().filter(|name| context.files.contains(file(name).as_path())) {
            steps.extend(removal(name, facts.get(name).unwrap_or(&unknown), context));
            context.removed.insert(file(name));
        }
        steps
    }

    fn finish(&self, recorded: &Self::Record, facts: &Self::Facts, context: &Context<'_>) -> Vec<Step> {
        let mut steps = Vec::new();
        let is_own_file = |path: &Path| recorded.keys().any(|name| file(name) == path);
        if context.removed.iter().any(|path| path.starts_with(FOLDER) && !is_own_file(path)) {
            steps.push(Step::ReloadSystemd);
        }
        for (name, reads) in recorded.iter().filter(|(name, _)| !context.files.contains(file(name).as_path()))
        {
            let Some(unit) = facts.get(name).filter(|unit| unit.active == "active") else { continue };
            // The directory is newer than the unit when an interrupted run removed the file.
            let is_changed = |path: &PathBuf| {
                let directory = path.parent().and_then(|directory| context.paths.get(directory));
                context.removed.contains(path) || directory.is_some_and(|it| it.modified > unit.started)
            };
            if reads.iter().any(is_changed) {
                let why = "tercet's configuration was removed".to_owned();
                steps.push(Step::Restart { name: name.clone(), why });
            }
        }
        steps
    }

    fn recorded(&self, files: &BTreeSet<&Path>) -> Self::Record {
        let present = self.iter().filter(|unit| unit.goal != Goal::Absent);
        present
            .map(|unit| {
                let is_own = files.contains(unit.file().as_path());
                let reads = unit.restart_when.iter().chain(&unit.reload_when).filter(|_| !is_own);
                (unit.name.clone(), reads.cloned().collect())
            })
            .collect()
    }

    fn record(
        &self,
        files: &BTreeSet<&Path>,
        _originals: &Path,
        record: &mut Self::Record,
    ) -> io::Result<()> {
        for (name, reads) in self.recorded(files) {
            record.entry(name).or_default().extend(reads);
        }
        Ok(())
    }

    fn removed(&self) -> Vec<PathBuf> {
        self.iter().filter(|unit| unit.goal == Goal::Absent).map(Unit::file).collect()
    }

    fn forget(&self, _removed: &[PathBuf], record: &mut Self::Record) {
        for unit in self.iter().filter(|unit| unit.goal == Goal::Absent) {
            record.remove(&unit.name);
        }
    }
}

impl Action for Step {
    fn execute(&self, _note: &mut dyn FnMut(&str)) -> Result<(), Error> {
        match self {
            Self::ReloadSystemd => run("systemctl", &["daemon-reload"]).map(drop)?,
            Self::Verify { name } => {
                run("systemd-analyze", &["verify", "--man=no", "--", &file(name).to_string_lossy()])?;
            }
            Self::Enable { name } => systemctl("enable", name)?,
            // The package that it was to come with may have none of it.
            Self::Disable { name } => {
                if read(name)?.exists {
                    systemctl("disable", name)?;
                }
            }
            Self::Start { name } => systemctl("start", name)?,
            Self::Stop { name } => systemctl("stop", name)?,
            Self::Restart { name, .. } => systemctl("restart", name)?,
            Self::Reload { name, .. } => reload(name)?,
            Self::Remove { name } => remove(name)?,
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReloadSystemd => write!(f, "reload systemd's unit files"),
            Self::Verify { name } => write!(f, "verify {name}"),
            Self::Enable { name } => write!(f, "enable {name}"),
            Self::Disable { name } => write!(f, "disable {name}"),
            Self::Start { name } => write!(f, "start {name}"),
            Self::Stop { name } => write!(f, "stop {name}"),
            Self::Restart { name, why } => write!(f, "restart {name}: {why}"),
            Self::Reload { name, why } => write!(f, "reload {name}: {why}"),
            Self::Remove { name } => write!(f, "remove {name}"),
        }
    }
}

fn read(name: &str) -> Result<UnitFacts, CommandError> {
    let properties = "LoadState,ActiveState,UnitFileState,NeedDaemonReload,InactiveExitTimestamp";
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
    Ok(UnitFacts {
        exists: property("LoadState") != "not-found",
        enabled: matches!(property("UnitFileState"), "enabled" | "enabled-runtime"),
        active: property("ActiveState").to_owned(),
        started: instant(property("InactiveExitTimestamp")),
        reloaded,
        stale: property("NeedDaemonReload") == "yes",
    })
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

/// `systemctl VERB NAME`; its error includes the end of the unit's log.
fn systemctl(verb: &str, name: &str) -> Result<(), CommandError> {
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

/// Removes a unit of tercet in any state: running, failed, refused by systemd, partly removed.
fn remove(name: &str) -> Result<(), Error> {
    // systemd does not know every unit that has a file: errors are ignored here, and the state is checked at the end.
    output("systemctl", &["disable", "--", name], "")?;
    output("systemctl", &["stop", "--", name], "")?;
    // systemd leaves the links that enabled a unit which it refuses.
    let wanted =
        ["multi-user.target.wants", "sockets.target.wants", "timers.target.wants", "sysinit.target.wants"];
    let links = wanted.iter().map(|target| Path::new(FOLDER).join(target).join(name));
    for path in links.chain([file(name)]) {
        path::remove(&path)?;
    }
    run("systemctl", &["daemon-reload"])?;
    output("systemctl", &["reset-failed", "--", name], "")?;
    let active = output("systemctl", &["is-active", "--", name], "")?;
    match String::from_utf8_lossy(&active.stdout).trim() {
        "active" | "deactivating" | "activating" | "reloading" => Ok(systemctl("stop", name)?),
        _ => Ok(()),
    }
}

/// Reloads a unit and keeps the time.
fn reload(name: &str) -> Result<(), Error> {
    std::fs::create_dir_all(RELOADS).map_err(Error::change(Path::new(RELOADS)))?;
    let stamp = Path::new(RELOADS).join(name);
    // Before the reload: a file written between the two is read again rather than missed.
    std::fs::write(&stamp, "").map_err(Error::change(&stamp))?;
    Ok(systemctl("reload", name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_systemd_timestamps_to_the_microsecond() {
        assert_eq!(instant("Thu 1970-01-01 00:00:01.500000 UTC"), Duration::from_millis(1500));
        assert_eq!(instant("n/a"), Duration::ZERO);
        assert_eq!(instant(""), Duration::ZERO);
    }
}
