//! Drop-ins (systemd.unit(5)): files that change a unit's settings beside its own file. Those that are not a unit's own are set
//! aside.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::command::run;
use crate::due::Due;
use crate::error::Error;
use crate::resource::{Action, Context, Resource};
use crate::set_aside::{self, set_aside};

/// The folders of unit files that an administrator, `systemctl edit` or `systemctl set-property` writes to. Those of packages
/// are not among them.
const FOLDERS: [&str; 4] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/etc/systemd/system",
    "/run/systemd/system",
];

/// The largest drop-in whose text a plan shows, in bytes.
const DIFF_LIMIT: u64 = 16 << 10;

/// The drop-ins of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropIns {
    /// The unit's name with its suffix.
    pub unit: String,
    /// The drop-ins that it has; all others are set aside.
    pub own: Vec<PathBuf>,
}

/// A change to the drop-ins of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Sets one aside.
    SetAside {
        /// The unit's name.
        unit: String,
        /// The drop-in.
        path: PathBuf,
        /// Its text.
        changes: Vec<Change>,
    },
}

impl Resource for Vec<DropIns> {
    /// The drop-ins that are not a unit's own, by unit, with their text if every user can read it.
    type Facts = BTreeMap<String, BTreeMap<PathBuf, Option<String>>>;
    type Record = ();
    type Step = Step;

    fn probe(&self, (): &()) -> Result<Self::Facts, Error> {
        let mut facts = BTreeMap::new();
        for DropIns { unit, own } in self {
            let mut others = BTreeMap::new();
            for folder in FOLDERS.iter().flat_map(|folder| {
                names(unit).into_iter().map(move |name| Path::new(folder).join(format!("{name}.d")))
            }) {
                let found = list(&folder).map_err(|source| Error::Read { path: folder.clone(), source })?;
                let foreign = found.into_iter().filter(|path| !own.contains(path));
                others.extend(foreign.map(|path| (path.clone(), text(&path))));
            }
            if !others.is_empty() {
                facts.insert(unit.clone(), others);
            }
        }
        Ok(facts)
    }

    fn diff(&self, facts: &Self::Facts, context: &mut Context<'_>) -> Vec<Step> {
        let mut steps = Vec::new();
        for DropIns { unit, .. } in self {
            for (path, text) in facts.get(unit).into_iter().flatten() {
                context.written.insert(Due::Restart.mark(unit));
                let removed = text.iter().flat_map(|text| text.lines()).map(|line| format!("-{line}\n"));
                let removed: String = removed.collect();
                let changes =
                    if removed.is_empty() { vec![] } else { vec![Change::new("contents", "", removed)] };
                steps.push(Step::SetAside { unit: unit.clone(), path: path.clone(), changes });
            }
        }
        steps
    }
}

impl Action for Step {
    fn changes(&self) -> &[Change] {
        let Self::SetAside { changes, .. } = self;
        changes
    }

    fn execute(&self, _note: &mut dyn FnMut(&str)) -> Result<(), Error> {
        let Self::SetAside { unit, path, .. } = self;
        Due::Restart.set(unit)?;
        set_aside(path)?;
        // It stays while other drop-ins are in it.
        if let Some(folder) = path.parent() {
            let _ = fs::remove_dir(folder);
        }
        run("systemctl", &["daemon-reload"]).map(drop)?;
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::SetAside { unit, path, .. } = self;
        write!(f, "move {} to {}: {unit} has no such drop-in", path.display(), set_aside::FOLDER)
    }
}

/// The names whose folders of drop-ins apply to a unit: its own, its template's, and those that end in a dash (systemd.unit(5)).
/// `service.d` is not among them: it is for every service of the machine.
fn names(unit: &str) -> Vec<String> {
    let Some((stem, suffix)) = unit.rsplit_once('.') else { return vec![unit.to_owned()] };
    let mut names = vec![unit.to_owned()];
    if let Some((prefix, instance)) = stem.split_once('@')
        && !instance.is_empty()
    {
        names.push(format!("{prefix}@.{suffix}"));
    }
    let dashes = stem.match_indices('-').map(|(place, _)| format!("{}.{suffix}", &stem[..=place]));
    names.extend(dashes.filter(|name| name != unit));
    names
}

/// The files of a folder that systemd reads; none if it does not exist.
fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        entries => entries?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "conf") {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// The text of a drop-in that every user can read: one that is private may have secrets in it.
fn text(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    let is_public = metadata.permissions().mode() & 0o004 != 0;
    (is_public && metadata.is_file() && metadata.len() <= DIFF_LIMIT)
        .then(|| fs::read_to_string(path).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_has_the_folders_of_its_name_its_template_and_its_prefixes() {
        assert_eq!(
            names("tercet-app-1@abc-2.service"),
            [
                "tercet-app-1@abc-2.service",
                "tercet-app-1@.service",
                "tercet-.service",
                "tercet-app-.service",
                "tercet-app-1@abc-.service"
            ]
        );
        assert_eq!(names("postgresql@15-main.service")[1], "postgresql@.service");
    }

    #[test]
    fn a_private_drop_in_is_found_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, mode) in [("a.conf", 0o644), ("b.conf", 0o600), ("c.txt", 0o644)] {
            fs::write(path(name), "[Service]\n").unwrap();
            fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let mut found = list(folder.path()).unwrap();
        found.sort();
        assert_eq!(found, [path("a.conf"), path("b.conf")]);
        assert_eq!(text(&path("a.conf")).as_deref(), Some("[Service]\n"));
        assert_eq!(text(&path("b.conf")), None);
        assert_eq!(list(&path("missing")).unwrap(), Vec::<PathBuf>::new());
    }
}
