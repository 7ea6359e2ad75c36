//! The inventory: the resources that tercet created on a machine, recorded before they are created, so that all of them
//! can be removed. Each kind defines its entry.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

pub use crate::record::Before;
pub use crate::resources::Inventory;
use crate::resources::{Desired, unit};

impl Inventory {
    /// Its units with a `wanted` name and a recorded file, with these files and nothing else.
    #[must_use]
    pub fn units_only(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let is_own = |name: &str| self.files.contains_key(&unit::file(name));
        let units: BTreeMap<_, _> =
            self.units.iter().filter(|(name, _)| wanted(name) && is_own(name)).collect();
        let files = units.keys().map(|name| unit::file(name));
        Self {
            files: files.map(|path| (path, Before::Absent)).collect(),
            units: units.into_iter().map(|(name, reads)| (name.clone(), reads.clone())).collect(),
            ..Self::default()
        }
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("inventory.json")
}

/// Reads the inventory from `folder`; it is empty where there is none yet.
///
/// # Errors
/// It cannot be read.
pub fn read(folder: &Path) -> io::Result<Inventory> {
    match fs::read(file(folder)) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Inventory::default()),
        Err(error) => Err(error),
    }
}

fn write(folder: &Path, inventory: &Inventory) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.write_all(&serde_json::to_vec_pretty(inventory)?)?;
    new.as_file().sync_all()?;
    new.persist(file(folder)).map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()
}

/// Records in `folder` the resources that converging this machine to `desired` creates, before it creates them. A file
/// that will be overwritten is copied first.
///
/// # Errors
/// The inventory or a copy cannot be written.
pub fn record(folder: &Path, desired: &Desired) -> io::Result<()> {
    update(folder, |inventory| inventory.add(desired, &folder.join("originals")))
}

/// Drops from the inventory in `folder` the resources that converging this machine to `desired` removed.
///
/// # Errors
/// The inventory cannot be written.
pub fn forget(folder: &Path, desired: &Desired) -> io::Result<()> {
    update(folder, |inventory| {
        inventory.subtract(desired);
        Ok(())
    })
}

fn update(folder: &Path, change: impl FnOnce(&mut Inventory) -> io::Result<()>) -> io::Result<()> {
    let before = read(folder)?;
    let mut after = before.clone();
    change(&mut after)?;
    if after == before { Ok(()) } else { write(folder, &after) }
}
