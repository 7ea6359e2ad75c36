//! What is there: read, never changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cluster::{self, ClusterFacts};
use crate::command::{CommandError, run};
use crate::desired::Desired;
use crate::file::{self, Owner, PathFacts};
use crate::firewall::{self, FirewallFacts};
use crate::sysctl::Sysctl;
use crate::unit::{Goal, Unit, UnitFacts};
use crate::user::User;
use crate::{package, sysctl, unit, user};

/// What a [`Desired`] needs to be compared with, and no more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// Installed versions by package.
    pub packages: BTreeMap<String, String>,
    /// Users that exist.
    pub users: BTreeSet<String>,
    /// What stands at the paths of directories, files and what should be absent.
    pub paths: BTreeMap<PathBuf, PathFacts>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// The firewall.
    pub firewall: FirewallFacts,
    /// Units by name.
    pub units: BTreeMap<String, UnitFacts>,
    /// The PostgreSQL cluster; `None` when it does not answer.
    pub cluster: Option<ClusterFacts>,
}

/// The machine could not be read.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// A program of the system failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file could not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Reads all that `desired` speaks of.
///
/// # Errors
/// A file cannot be read, or a program that tells is missing.
pub fn probe(desired: &Desired) -> Result<Facts, ProbeError> {
    let retired = &desired.retired;
    let users: Vec<User> =
        desired.users.iter().cloned().chain(retired.users.keys().map(|name| User(name.clone()))).collect();
    let before = retired.sysctls.keys().map(|key| Sysctl { key: key.clone(), value: String::new() });
    let sysctls: Vec<Sysctl> = desired.sysctls.iter().cloned().chain(before).collect();
    let units: Vec<&str> = desired
        .units
        .iter()
        .map(|unit| unit.name.as_str())
        .chain(retired.units.keys().map(String::as_str))
        .collect();
    Ok(Facts {
        packages: package::probe(&desired.packages)?,
        users: user::probe(&users)?,
        paths: probe_paths(desired)?,
        sysctls: sysctl::probe(&sysctls)?,
        firewall: if desired.firewall.is_some() || desired.retired.firewall {
            firewall::probe()?
        } else {
            FirewallFacts::default()
        },
        units: unit::probe(&units)?,
        cluster: desired.cluster.as_ref().map_or(Ok(None), cluster::probe)?,
    })
}

fn probe_paths(desired: &Desired) -> Result<BTreeMap<PathBuf, PathFacts>, ProbeError> {
    let directories = desired.directories.iter().map(|directory| (&directory.path, false));
    let files = desired.files.iter().map(|file| (&file.path, file.may_be_shown()));
    let absent = desired.absent.iter().map(|path| (path, false));
    let gone: Vec<PathBuf> =
        desired.units.iter().filter(|unit| unit.goal == Goal::Absent).map(Unit::file).collect();
    let gone = gone.iter().map(|path| (path, false));
    let retired = desired.retired.paths();
    let retired = retired.iter().map(|path| (path, false));
    let boot = sysctl::boot_file(&desired.sysctls);
    let mut names = Names::default();
    let mut paths = BTreeMap::new();
    for (path, show) in
        directories.chain(files).chain(absent).chain(gone).chain(retired).chain([(&boot.path, true)])
    {
        let found = file::probe(path, show, &mut names)
            .map_err(|source| ProbeError::Read { path: path.clone(), source })?;
        if let Some(found) = found {
            paths.insert(path.clone(), found);
        }
    }
    Ok(paths)
}

/// Names of user and group numbers, each looked up once.
#[derive(Debug, Default)]
pub(crate) struct Names {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Names {
    pub(crate) fn user(&mut self, number: u32) -> String {
        self.users.entry(number).or_insert_with(|| name("passwd", number)).clone()
    }

    pub(crate) fn group(&mut self, number: u32) -> String {
        self.groups.entry(number).or_insert_with(|| name("group", number)).clone()
    }
}

fn name(database: &str, number: u32) -> String {
    run("getent", &[database, "--", &number.to_string()])
        .ok()
        .and_then(|line| line.split(':').next().map(str::to_owned))
        .unwrap_or_else(|| number.to_string())
}

/// The numbers of an owner's names.
pub(crate) fn numbers(owner: &Owner) -> io::Result<(u32, u32)> {
    let number = |database: &str, name: &str| {
        run("getent", &[database, "--", name])
            .ok()
            .and_then(|line| line.split(':').nth(2)?.trim().parse().ok())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no {database} entry for {name}")))
    };
    Ok((number("passwd", &owner.user)?, number("group", &owner.group)?))
}

/// Whether `path` is a unit file of systemd's own folder.
pub(crate) fn is_unit_file(path: &Path) -> bool {
    path.starts_with("/etc/systemd/system")
}
