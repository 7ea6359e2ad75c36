//! What others may not change on a machine: the drop-ins of its units, its programs, and the way of its connections.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use tercet_config::Machine;
use tercet_machine::Desired;
use tercet_machine::drop_in::DropIns;
use tercet_machine::translation::Translations;
use tercet_machine::tree::Tree;

use super::project::Project;
use crate::deployment::Serving;
use crate::system::System;

/// Where units and their drop-ins are.
const UNITS: &str = "/etc/systemd/system";

/// Adds it to what the machine should be, which is complete otherwise.
pub(super) fn add(
    desired: &mut Desired,
    project: &Project<'_>,
    machine: &Machine,
    system: &System,
    kept: &[Serving<'_>],
) {
    desired.drop_ins = drop_ins(desired);
    let program = Path::new(project.program).parent().unwrap_or(Path::new(project.program));
    let releases = kept.iter().filter(|it| it.placed.machine == machine.name);
    let folders = releases.flat_map(|it| {
        let program = Path::new(&it.release.program).parent().map(Path::to_owned);
        [Some(it.release.folder()), program].into_iter().flatten()
    });
    let trees: BTreeSet<PathBuf> = folders.chain([program.to_owned()]).collect();
    desired.trees = trees.into_iter().map(Tree).collect();
    let edges = project.topology.edges();
    let arriving = edges.iter().filter(|edge| edge.machine.name == machine.name && !edge.is_local());
    let ports: BTreeSet<u16> = arriving.map(|edge| edge.port).chain([system.operator.1]).collect();
    desired.translations = Some(Translations(ports.into_iter().collect()));
}

/// The drop-ins of tercet's units and of those that tercet has a drop-in for: the ones among the machine's files.
fn drop_ins(desired: &Desired) -> Vec<DropIns> {
    let mut drop_ins: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
    for path in desired.files.iter().map(|file| file.path.as_path()) {
        let Ok(below) = path.strip_prefix(UNITS) else { continue };
        let mut names = below.iter().filter_map(OsStr::to_str);
        match (names.next(), names.next()) {
            (Some(unit), None) => drop(drop_ins.entry(unit).or_default()),
            (Some(folder), Some(_)) => {
                let unit = folder.strip_suffix(".d").unwrap_or(folder);
                drop_ins.entry(unit).or_default().push(path.to_owned());
            }
            (None, _) => {}
        }
    }
    drop_ins.into_iter().map(|(unit, own)| DropIns { unit: unit.to_owned(), own }).collect()
}
