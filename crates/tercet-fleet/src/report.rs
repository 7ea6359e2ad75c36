//! The report of this machine: the state of tercet's parts, and its releases.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use tercet_database::RecoveryTarget;
use tercet_machine::firewall::Firewall;
use tercet_machine::inventory::{self, Inventory};

use crate::backup::record::Record;
use crate::backup::replace::{self, Replacement};
use crate::backup::settings::Settings;
use crate::backup::{copy, heartbeat};
use crate::identity::{self, Identity};
use crate::instance::Instance;
use crate::journal;
use crate::paths::{CONFIGURATION, CREDENTIALS, LIBRARY, PROGRAM_DIGITS, STATE, program};
use crate::release::Release;
use crate::state::Held;

/// The section of a unit's file that tercet reads and systemd ignores.
pub(crate) const SECTION: &str = "[X-Tercet]";

/// The beginnings of the names of units that run for a moment, and of their timers.
const TASKS: [&str; 5] =
    ["tercet-check.", "tercet-heartbeat.", "tercet-backup-", "tercet-restored.", "tercet-prove."];

/// A machine's report.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The machine's identity.
    pub identity: Option<Identity>,
    /// The stored operator state.
    pub state: Option<Held>,
    /// Application servers' units, running or not.
    pub instances: Vec<(Instance, UnitState)>,
    /// The addresses of the balancer's servers, by part.
    pub serving: BTreeMap<String, SocketAddr>,
    /// The other units: the balancer's, the database's.
    pub units: BTreeMap<String, UnitState>,
    /// The complete releases, the one used last first.
    pub releases: Vec<Release>,
    /// Folders of releases that never became complete.
    pub incomplete: Vec<String>,
    /// The names of folders of static files; one that ends in `.new` is not complete.
    #[serde(default)]
    pub websites: Vec<String>,
    /// tercet's binaries, by the beginning of their digests.
    pub programs: Vec<String>,
    /// The folders of credentials.
    pub credentials: Vec<String>,
    /// Warnings about certificates that expire soon, and about write-ahead log that is not archived.
    pub warnings: Vec<String>,
    /// The resources that tercet created.
    pub inventory: Inventory,
    /// The backups, on the machine that makes them.
    #[serde(default)]
    pub backups: Option<Record>,
    /// The target of the copy that is restored beside the database.
    #[serde(default)]
    pub copy: Option<RecoveryTarget>,
    /// How far the last replacement of the database is.
    #[serde(default)]
    pub replacement: Option<Replacement>,
    /// The folders of data that replacements left.
    #[serde(default)]
    pub replaced: Vec<PathBuf>,
    /// Seconds since the machine booted.
    pub uptime: u64,
    /// Load average of the last minute.
    pub load: f64,
    /// Memory in KiB: total and available.
    pub memory: (u64, u64),
    /// The size and the free space of the file systems that tercet writes to, in KiB, by a folder on each.
    #[serde(default)]
    pub disks: BTreeMap<PathBuf, (u64, u64)>,
    /// When the first of tercet's certificates expires.
    #[serde(default)]
    pub certificates_end: Option<Timestamp>,
}

/// The state of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitState {
    /// `active`, `failed`, …
    pub active: String,
    /// How often systemd has restarted it.
    pub restarts: u32,
    /// Memory in bytes, when systemd counts it.
    pub memory: Option<u64>,
}

impl Report {
    /// Whether the machine keeps the operator state of the project it belongs to.
    pub(crate) fn keeps_state(&self) -> bool {
        let projects = self.state.as_ref().zip(self.identity.as_ref());
        projects.is_some_and(|(held, identity)| held.header.project == identity.project)
    }

    /// The report as JSON; releases by their names alone, since their configuration may hold secrets.
    pub fn shown(&self) -> serde_json::Value {
        let releases: Vec<&str> = self.releases.iter().map(|release| release.id.as_str()).collect();
        let mut shown = serde_json::to_value(Self {
            releases: Vec::new(),
            inventory: Inventory::default(),
            ..self.clone()
        })
        .unwrap_or_default();
        shown["releases"] = releases.into();
        shown
    }
}

/// Reads it.
pub(crate) fn read() -> Result<Report> {
    let mut instances = Vec::new();
    let mut units = BTreeMap::new();
    for entry in fs::read_dir("/etc/systemd/system").context("/etc/systemd/system")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == Firewall::BOOT_UNIT || TASKS.iter().any(|task| name.starts_with(task)) {
            continue;
        }
        if let Some(text) = name.starts_with("tercet-").then(|| fs::read_to_string(&path).ok()).flatten() {
            match instance(&text) {
                Some(instance) => instances.push((instance, state(&name)?)),
                None => drop(units.insert(name.clone(), state(&name)?)),
            }
        } else if let Some(unit) = name.strip_suffix(".d").filter(|unit| unit.starts_with("postgresql@")) {
            units.insert(unit.to_owned(), state(unit)?);
        }
    }
    instances.sort_by(|a, b| a.0.cmp(&b.0));
    let (releases, incomplete) = releases()?;
    let number =
        |text: &str| text.split_whitespace().next().and_then(|it| it.parse::<f64>().ok()).unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo")?;
    let kib =
        |key: &str| memory.lines().find_map(|line| line.strip_prefix(key)).map_or(0, |it| number(it) as u64);
    Ok(Report {
        identity: identity::read()?,
        state: crate::state::held()?,
        instances,
        serving: serving(),
        units,
        releases,
        incomplete,
        websites: names(crate::website::folder()).collect(),
        programs: programs(),
        credentials: names(CREDENTIALS).filter(|name| Path::new(CREDENTIALS).join(name).is_dir()).collect(),
        warnings: crate::validity::warnings().into_iter().chain(heartbeat::failure()).collect(),
        inventory: inventory::read(Path::new(STATE)).context("what tercet made here")?,
        backups: Settings::read()?.filter(|it| it.makes_backups).map(|_| Record::read()).transpose()?,
        copy: copy::present(),
        replacement: Replacement::read()?,
        replaced: replace::left()?,
        uptime: number(&fs::read_to_string("/proc/uptime")?) as u64,
        load: number(&fs::read_to_string("/proc/loadavg")?),
        memory: (kib("MemTotal:"), kib("MemAvailable:")),
        disks: disks(),
        certificates_end: crate::validity::first_end(),
    })
}

/// The file systems that tercet writes to, each once.
fn disks() -> BTreeMap<PathBuf, (u64, u64)> {
    let mut disks = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for folder in ["/", "/var/lib/postgresql", "/var/lib/tercet-backup"] {
        let (Ok(metadata), Ok(disk)) = (fs::metadata(folder), rustix::fs::statvfs(folder)) else { continue };
        if seen.insert(metadata.dev()) {
            let kib = |blocks: u64| blocks * disk.f_frsize / 1024;
            disks.insert(folder.into(), (kib(disk.f_blocks), kib(disk.f_bavail)));
        }
    }
    disks
}

/// The instance a unit's file is about, when it is an application server's.
fn instance(text: &str) -> Option<Instance> {
    let (_, section) = text.split_once(SECTION)?;
    let value = |key: &str| {
        section.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned)
    };
    Some(Instance {
        part: value("Part")?,
        release: value("Release")?,
        revision: value("Revision")?,
        port: value("Port")?.parse().ok()?,
    })
}

/// The servers in the balancer's configuration; none without a balancer.
fn serving() -> BTreeMap<String, SocketAddr> {
    servers_of(&fs::read_to_string(Path::new(CONFIGURATION).join("balancer.toml")).unwrap_or_default())
}

/// The servers of all backend pools of a configuration.
pub(crate) fn servers_of(configuration: &str) -> BTreeMap<String, SocketAddr> {
    #[derive(Default, Deserialize)]
    struct Configuration {
        #[serde(flatten)]
        application: Pool,
        #[serde(default)]
        pool: BTreeMap<String, Pool>,
    }
    #[derive(Default, Deserialize)]
    struct Pool {
        #[serde(default)]
        servers: Vec<Server>,
    }
    #[derive(Deserialize)]
    struct Server {
        name: String,
        address: SocketAddr,
    }
    let Configuration { application, pool } = toml::from_str(configuration).unwrap_or_default();
    let servers = [application].into_iter().chain(pool.into_values()).flat_map(|pool| pool.servers);
    servers.map(|server| (server.name, server.address)).collect()
}

/// The state of a unit.
pub(crate) fn state(unit: &str) -> Result<UnitState> {
    let output = Command::new("systemctl")
        .args(["show", "--property=ActiveState,NRestarts,MemoryCurrent", "--", unit])
        .output()
        .context("systemctl")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let value = |key: &str| {
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
    };
    Ok(UnitState {
        active: value("ActiveState").to_owned(),
        restarts: value("NRestarts").parse().unwrap_or_default(),
        memory: value("MemoryCurrent").parse().ok(),
    })
}

/// The last lines of a unit's own log.
pub(crate) fn log_end(unit: &str) -> Result<String> {
    let end = journal::messages(&["--lines=12", &format!("_SYSTEMD_UNIT={unit}")])?;
    Ok(end.trim().to_owned())
}

/// The releases that are complete here, the one that was used last first; and the folders of the others.
fn releases() -> Result<(Vec<Release>, Vec<String>)> {
    let folder = Path::new(LIBRARY).join("releases");
    let (mut releases, mut incomplete) = (Vec::new(), Vec::new());
    for name in names(&folder) {
        let path = folder.join(&name).join("release.json");
        match fs::read(&path) {
            Ok(text) => {
                let release: Release =
                    serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
                releases.push((fs::metadata(&path)?.modified()?, release));
            }
            Err(_) => incomplete.push(name),
        }
    }
    releases.sort_by_key(|(used, _)| std::cmp::Reverse(*used));
    incomplete.sort();
    Ok((releases.into_iter().map(|(_, release)| release).collect(), incomplete))
}

/// tercet's own binaries; one that is not whole yet has another name.
fn programs() -> Vec<String> {
    names(LIBRARY)
        .filter(|name| crate::begins_digest(name, PROGRAM_DIGITS) && Path::new(&program(name)).is_file())
        .collect()
}

/// The names in a folder; none when it is not there.
fn names(folder: impl AsRef<Path>) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}
