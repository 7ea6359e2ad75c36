//! Kernel parameters of the running kernel. [`Sysctl::boot_file`] sets them again at every boot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file::{Contents, File};
use crate::change::Change;
use crate::command::{CommandError, output, run};
use crate::error::Error;
use crate::path::Owner;
use crate::resource::{Action, Context, Resource};

/// A kernel parameter and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sysctl {
    /// For example `net.core.somaxconn`.
    pub key: String,
    /// The value as the kernel prints it.
    pub value: String,
}

impl Sysctl {
    /// The file that sets `sysctls` at boot (sysctl.d(5)).
    pub fn boot_file(sysctls: &[Self]) -> File {
        let text: String =
            sysctls.iter().map(|sysctl| format!("{} = {}\n", sysctl.key, sysctl.value)).collect();
        File {
            path: PathBuf::from("/etc/sysctl.d/60-tercet.conf"),
            contents: Contents::Text(text),
            owner: Owner::root(),
            mode: 0o644,
        }
    }

    fn read(key: &str) -> Result<Option<String>, CommandError> {
        let output = output("sysctl", &["-n", "--", key], "")?;
        let value = String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(output.status.success().then_some(value))
    }
}

/// A change to a kernel parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Sets it in the running kernel.
    Set {
        /// The parameter and its value.
        sysctl: Sysctl,
        /// The value before and after.
        changes: Vec<Change>,
    },
}

impl Step {
    fn set(key: &str, from: &str, to: &str) -> Self {
        let changes = vec![Change::new("value", from, to)];
        Self::Set { sysctl: Sysctl { key: key.to_owned(), value: to.to_owned() }, changes }
    }
}

impl Resource for Vec<Sysctl> {
    /// Values by key, without the parameters that this kernel lacks.
    type Facts = BTreeMap<String, String>;
    /// The values before.
    type Record = BTreeMap<String, Option<String>>;
    type Step = Step;

    fn probe(&self, recorded: &Self::Record) -> Result<Self::Facts, Error> {
        let mut values = BTreeMap::new();
        for key in self.iter().map(|sysctl| &sysctl.key).chain(recorded.keys()) {
            if let Some(value) = Sysctl::read(key)? {
                values.insert(key.clone(), value);
            }
        }
        Ok(values)
    }

    fn diff(&self, facts: &Self::Facts, _context: &mut Context<'_>) -> Vec<Step> {
        let differing = self.iter().filter(|sysctl| facts.get(&sysctl.key) != Some(&sysctl.value));
        differing
            .map(|sysctl| {
                let from = facts.get(&sysctl.key).map_or("unknown to this kernel", String::as_str);
                Step::set(&sysctl.key, from, &sysctl.value)
            })
            .collect()
    }

    fn removal(recorded: &Self::Record, facts: &Self::Facts, _context: &mut Context<'_>) -> Vec<Step> {
        recorded
            .iter()
            .filter_map(|(key, before)| {
                let (value, before) = (facts.get(key)?, before.as_ref()?);
                (value != before).then(|| Step::set(key, value, before))
            })
            .collect()
    }

    fn recorded(&self, _files: &BTreeSet<&Path>) -> Self::Record {
        self.iter().map(|sysctl| (sysctl.key.clone(), None)).collect()
    }

    fn record(
        &self,
        _files: &BTreeSet<&Path>,
        _originals: &Path,
        record: &mut Self::Record,
    ) -> io::Result<()> {
        for Sysctl { key, .. } in self {
            if !record.contains_key(key) {
                record.insert(key.clone(), Sysctl::read(key).map_err(io::Error::other)?);
            }
        }
        Ok(())
    }
}

impl Action for Step {
    fn changes(&self) -> &[Change] {
        let Self::Set { changes, .. } = self;
        changes
    }

    fn execute(&self, _note: &mut dyn FnMut(&str)) -> Result<(), Error> {
        let Self::Set { sysctl: Sysctl { key, value }, .. } = self;
        run("sysctl", &["-q", "-w", &format!("{key}={value}")])?;
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Set { sysctl, .. } = self;
        write!(f, "set {}", sysctl.key)
    }
}
