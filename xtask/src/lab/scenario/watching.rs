//! `logs -f` and `status --watch` continue when a machine comes back.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::Scenario;
use crate::lab::machines::Machine;
use crate::lab::{signal, until};

/// How long it may take until what has changed is seen.
const SEEN: Duration = Duration::from_secs(60);

/// `logs -f` and `status --watch` over the power cut of an application machine.
pub(super) fn over_a_power_cut(scenario: &Scenario<'_>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let [printed, seen] = ["logs", "status"].map(|name| folder.path().join(name));
    let mut logs = watch(scenario, "logs", &["--follow", "--json"], &printed)?;
    let mut status = watch(scenario, "status", &["--watch", "--json"], &seen)?;
    let machine = Machine::named("app2")?;
    until("lines of both machines, and a look at app2", SEEN, || {
        scenario.get("/event?number=eq.0")?;
        Ok(lines_of(&printed, "app2")? > 0
            && lines_of(&printed, "app1")? > 0
            && looks(&seen)?.ends_with(&[true]))
    })?;
    scenario.lab.cut(machine)?;
    until("app2 is shown as gone", SEEN, || Ok(looks(&seen)?.ends_with(&[false])))?;
    scenario.lab.start(machine)?;
    super::faults::healthy(scenario)?;
    let before = lines_of(&printed, "app2")?;
    until("app2 is shown again, and its new lines", SEEN, || {
        scenario.get("/event?number=eq.0")?;
        Ok(lines_of(&printed, "app2")? > before && looks(&seen)?.ends_with(&[true]))
    })?;
    for child in [&mut logs, &mut status] {
        signal(child, "INT")?;
        let ended = child.wait()?;
        ensure!(ended.success(), "Ctrl-C ended it with {ended}");
    }
    Ok(())
}

fn watch(scenario: &Scenario<'_>, verb: &str, arguments: &[&str], to: &Path) -> Result<Child> {
    let mut command = scenario.tercet(verb, arguments)?;
    command.arg(scenario.project.path()).stdin(Stdio::null()).stderr(Stdio::null());
    Ok(command.stdout(File::create(to)?).spawn()?)
}

/// How many lines of a machine have been shown.
fn lines_of(printed: &Path, machine: &str) -> Result<usize> {
    let text = std::fs::read_to_string(printed)?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines.filter(|line| line["machine"] == machine).count())
}

/// Whether app2 could be read, look after look.
fn looks(seen: &Path) -> Result<Vec<bool>> {
    let text = std::fs::read_to_string(seen)?;
    let looks = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let of_app2 = looks.map_while(Result::ok).filter_map(|look| {
        let machines = look["machines"].as_array()?.clone();
        machines.into_iter().find(|it| it["machine"] == "app2").map(|it| it["error"].is_null())
    });
    Ok(of_app2.collect())
}
