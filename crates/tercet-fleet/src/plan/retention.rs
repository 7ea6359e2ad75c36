//! Retention: the releases, binaries, credentials and units that are kept on the machines.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Target, parts};
use crate::desired::credentials_folder;
use crate::instance::Instance;
use crate::operation::{Action, Operation};
use crate::paths::{self, CREDENTIALS, CREDENTIALS_PREFIX, LIBRARY};
use crate::release::{ID_DIGITS, Release};
use crate::survey::Surveyed;
use crate::website;

/// How many releases of an application stay on the machines: the one in use and those to go back to.
const RELEASES_KEPT: usize = 3;

/// The kept items.
pub(super) struct Retention {
    releases: BTreeSet<String>,
    websites: BTreeSet<String>,
    programs: BTreeSet<String>,
}

impl Retention {
    /// For each application, the release that is to serve, those used last, and the binaries they run by.
    pub(super) fn of(target: &Target<'_>) -> Self {
        let mut kept: Vec<&Release> = Vec::new();
        for release in &target.releases {
            let others = target.now.releases.iter();
            let others = others.filter(|it| it.application == release.application && it.id != release.id);
            kept.extend([release].into_iter().chain(others).take(RELEASES_KEPT));
        }
        let needed = |path: &str| path == target.project.program || kept.iter().any(|it| it.program == path);
        Self {
            releases: kept.iter().map(|release| release.id.clone()).collect(),
            websites: kept.iter().filter_map(|it| Some(it.website.as_ref()?.name().to_owned())).collect(),
            programs: target.now.programs.iter().filter(|it| needed(&paths::program(it))).cloned().collect(),
        }
    }

    /// The operation that removes all others from a machine; the last one there.
    pub(super) fn clean_up(&self, target: &Target<'_>, machine: &Surveyed) -> Option<Operation> {
        let report = &machine.report;
        let here = |part: &str| {
            let topology = target.project.topology;
            topology.parts().iter().any(|it| it.name == part && topology.machine_of(it).name == machine.name)
        };
        let replaced = target.now.instances.iter().filter(|instance| {
            here(&instance.part)
                && target.serving.get(&instance.part).map(|it| &it.instance) != Some(*instance)
        });
        let strays = target.now.strays.get(&machine.name).into_iter().flatten();
        let instances: Vec<Instance> = replaced.chain(strays).cloned().collect();

        let releases = Path::new(LIBRARY).join("releases");
        let complete = report.releases.iter().map(|release| &release.id);
        let gone = complete.chain(&report.incomplete).filter(|id| crate::begins_digest(id, ID_DIGITS));
        // A machine without application servers keeps none: a release may hold secrets.
        let serves = parts(target.project).any(|part| here(&part.name));
        let mut paths: Vec<PathBuf> =
            gone.filter(|id| !serves || !self.releases.contains(*id)).map(|id| releases.join(id)).collect();
        let balances = super::rollout::balancers(target).any(|name| name == machine.name);
        let is_ours = |name: &&String| {
            crate::begins_digest(name.strip_suffix(".new").unwrap_or(name), website::NAME_DIGITS)
        };
        let websites = report.websites.iter().filter(is_ours);
        let websites = websites.filter(|name| !balances || !self.websites.contains(*name));
        paths.extend(websites.map(|name| website::folder().join(name)));
        let programs = report.programs.iter().filter(|name| !self.programs.contains(*name));
        paths.extend(programs.map(|name| Path::new(LIBRARY).join(name)));
        let current = target.machine(&machine.name).ok().filter(|_| serves);
        let current: Vec<PathBuf> = current
            .into_iter()
            .flat_map(|machine| {
                let applications = target.project.topology.applications().iter();
                applications.map(|it| credentials_folder(target.project, machine, it.name.as_deref()))
            })
            .collect();
        let folders = report.credentials.iter().filter(|name| name.starts_with(CREDENTIALS_PREFIX));
        let folders = folders.map(|name| Path::new(CREDENTIALS).join(name));
        paths.extend(folders.filter(|folder| !current.contains(folder)));
        (!instances.is_empty() || !paths.is_empty())
            .then(|| Operation::on(&machine.name, Action::CleanUp { instances, paths }))
    }
}
