//! The record of a rotation's phase, beside the files that the rotation replaces.
//!
//! One small file, replaced whole, decides which of the files of the folder and of `next/` are in force. So a
//! process can be killed at any moment: the phase in force is the one before or the one after, never a mixture.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tercet_machine::path;

use super::{Kind, Phase};
use crate::authority::{crash_point, sync, write, write_private};
use crate::operator_folder::{FOLDER, NEXT, RETIRING_KEY, SIGNING_KEY};

/// The record's file.
const FILE: &str = "rotation.json";

/// The state of a rotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// The number of phases that were entered.
    pub(crate) generation: u64,
    /// The rotation in progress.
    #[serde(default)]
    running: Option<Running>,
    /// Whether the token key before the present one is still accepted.
    #[serde(default)]
    retiring_token_key: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Running {
    phase: Phase,
    /// Whether the machines have completed the last phase, and the files in `next/` replace those beside it.
    over: bool,
}

impl Record {
    /// Reads the record of a project's folder, after completing the end of an interrupted rotation.
    ///
    /// # Errors
    /// It cannot be read, or a file cannot be put in place.
    pub(crate) fn open(project: &Path) -> Result<Self> {
        let mut record = Self::read(project)?;
        record.go_on(project)?;
        Ok(record)
    }

    pub(crate) fn read(project: &Path) -> Result<Self> {
        let path = project.join(FOLDER).join(FILE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| path.display().to_string()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Completes the end of an interrupted rotation and returns its kind.
    pub(crate) fn go_on(&mut self, project: &Path) -> Result<Option<Kind>> {
        let Some(Running { phase, over: true }) = self.running else { return Ok(None) };
        self.put_in_place(project, phase)?;
        Ok(Some(phase.kind()))
    }

    /// The phase that is in force.
    pub(crate) fn phase(&self) -> Option<Phase> {
        self.running.as_ref().map(|running| running.phase)
    }

    /// Whether the token key before the present one is still accepted.
    pub(crate) fn is_retiring_token_key(&self) -> bool {
        self.retiring_token_key
    }

    /// The record of the phase that comes now.
    pub(crate) fn entering(&self, phase: Phase) -> Self {
        let running = Some(Running { phase, over: false });
        Self { generation: self.generation + 1, running, ..self.clone() }
    }

    pub(crate) fn write(&self, project: &Path) -> Result<()> {
        write_private(&project.join(FOLDER), FILE, &(serde_json::to_string_pretty(self)? + "\n"))
    }

    /// Ends the rotation: the files in `next/` replace those beside it.
    pub(crate) fn finish(&mut self, project: &Path, phase: Phase) -> Result<()> {
        let folder = project.join(FOLDER);
        if matches!(phase.kind(), Kind::Certificates | Kind::Authority) {
            remove_unneeded_identities(&folder)?;
        }
        self.running = Some(Running { phase, over: true });
        self.write(project)?;
        self.put_in_place(project, phase)
    }

    /// Repeated after a kill at any moment, it ends in the same state.
    fn put_in_place(&mut self, project: &Path, phase: Phase) -> Result<()> {
        let folder = project.join(FOLDER);
        let next = folder.join(NEXT);
        match phase.kind() {
            Kind::TokenKeys => {
                let (new, signing) = (next.join("jwt-secret"), project.join(SIGNING_KEY));
                if new.exists() {
                    let old = fs::read_to_string(&signing).with_context(|| signing.display().to_string())?;
                    write(&folder.join(RETIRING_KEY), &old, 0o600)?;
                    rename(&new, &signing)?;
                }
                self.retiring_token_key = true;
            }
            Kind::RetiredTokenKey => {
                remove(&folder.join(RETIRING_KEY))?;
                self.retiring_token_key = false;
            }
            Kind::Secrets | Kind::Certificates | Kind::Authority => {
                for name in names(&next)? {
                    rename(&next.join(&name), &folder.join(&name))?;
                }
            }
        }
        clear(&folder)?;
        self.running = None;
        self.write(project)
    }
}

/// Removes `next/` with its contents.
pub(crate) fn clear(folder: &Path) -> Result<()> {
    remove(&folder.join(NEXT))?;
    sync(folder)
}

/// Removes certificates and keys that have no successor in `next/`: of addresses the database no longer has.
fn remove_unneeded_identities(folder: &Path) -> Result<()> {
    let next = names(&folder.join(NEXT))?;
    for record in names(folder)?.iter().filter(|name| name.ends_with(".subject") && !next.contains(name)) {
        // The record last: it is needed to find the other files.
        for kind in ["crt", "key", "subject"] {
            remove(&folder.join(record).with_extension(kind))?;
        }
    }
    Ok(())
}

/// The names in a folder, in their order; none when it is not there.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| folder.display().to_string())?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    crash_point::before_a_write()?;
    fs::rename(from, to).with_context(|| to.display().to_string())?;
    to.parent().map_or(Ok(()), sync)
}

fn remove(path: &Path) -> Result<()> {
    crash_point::before_a_write()?;
    Ok(path::remove(path)?)
}
