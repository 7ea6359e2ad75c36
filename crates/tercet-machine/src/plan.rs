//! What to do: the only place that decides. Pure: a value in, a value out.

use std::collections::BTreeSet;

use crate::desired::Desired;
use crate::facts::{Facts, is_unit_file};
use crate::firewall::FirewallFacts;
use crate::step::{Change, Step};
use crate::sysctl;
use crate::unit::UnitFacts;

/// The steps from `facts` to `desired`, in the order to take them; none when it is so already.
pub fn plan(desired: &Desired, facts: &Facts) -> Vec<Step> {
    let mut steps = Vec::new();
    let missing = desired.packages.iter().filter(|package| !facts.packages.contains_key(&package.0));
    let names: Vec<String> = missing.map(|package| package.0.clone()).collect();
    if !names.is_empty() {
        steps.push(Step::InstallPackages { names });
    }
    let users = desired.users.iter().filter(|user| !facts.users.contains(&user.0));
    steps.extend(users.map(|user| Step::CreateUser { name: user.0.clone() }));
    for directory in &desired.directories {
        let changes = directory.changes(&facts.paths);
        if !changes.is_empty() {
            steps.push(Step::MakeDirectory { directory: directory.clone(), changes });
        }
    }
    let mut written = BTreeSet::new();
    let boot = (!desired.sysctls.is_empty()).then(|| sysctl::boot_file(&desired.sysctls));
    for file in desired.files.iter().chain(&boot) {
        let changes = file.changes(&facts.paths);
        if !changes.is_empty() {
            written.insert(file.path.clone());
            steps.push(Step::WriteFile { file: file.clone(), changes });
        }
    }
    let mut removed = false;
    for path in desired.absent.iter().filter(|path| facts.paths.contains_key(*path)) {
        removed |= is_unit_file(path);
        steps.push(Step::Remove { path: path.clone() });
    }
    for sysctl in &desired.sysctls {
        let value = facts.sysctls.get(&sysctl.key);
        if value != Some(&sysctl.value) {
            let from = value.map_or("unknown to this kernel", String::as_str);
            let changes = vec![Change::new("value", from, sysctl.value.clone())];
            steps.push(Step::SetSysctl { sysctl: sysctl.clone(), changes });
        }
    }
    let stale = facts.units.values().any(|unit| unit.stale);
    if stale || removed || written.iter().any(|path| is_unit_file(path)) {
        steps.push(Step::ReloadSystemd);
    }
    let unknown = UnitFacts::default();
    for unit in &desired.units {
        steps.extend(unit.steps(facts.units.get(&unit.name).unwrap_or(&unknown), &facts.paths, &written));
    }
    if let Some(cluster) = &desired.cluster {
        steps.extend(cluster.steps(facts.cluster.as_ref()));
    }
    steps.extend(desired.retired.steps(facts));
    if desired.retired.firewall && facts.firewall != FirewallFacts::default() {
        steps.push(Step::RemoveFirewall);
    }
    // Last: whatever else goes wrong, the machine stays reachable as it was.
    if let Some(firewall) = &desired.firewall {
        let changes = firewall.changes(&facts.firewall);
        if !changes.is_empty() {
            steps.push(Step::ReplaceFirewall { firewall: firewall.clone(), changes });
            steps.push(Step::KeepFirewall { firewall: firewall.clone() });
        }
    }
    steps
}
