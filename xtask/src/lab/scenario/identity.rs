//! The identity of machines and data: an apply to another project's machines, or one that would leave data behind, is refused.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::{FOUR_MACHINES, Scenario};
use crate::lab::machines::MACHINES;

/// Checks that an apply in `folder` is refused with these texts and changes nothing.
fn refused(scenario: &Scenario<'_>, folder: &Path, says: &[&str]) -> Result<()> {
    refused_to(scenario, "apply", &["--yes"], folder, says)
}

/// The same of any verb.
pub(super) fn refused_to(
    scenario: &Scenario<'_>,
    verb: &str,
    arguments: &[&str],
    folder: &Path,
    says: &[&str],
) -> Result<()> {
    let before = touched(scenario)?;
    let output = scenario.tercet(verb, arguments)?.arg(folder).stdin(std::process::Stdio::null()).output()?;
    let printed =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let printed = printed.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    ensure!(!output.status.success(), "it was not refused: {printed}");
    for text in says {
        ensure!(printed.contains(text), "{text:?} is not printed: {printed}");
    }
    let after = touched(scenario)?;
    ensure!(before == after, "something was touched: {before}\n{after}");
    Ok(())
}

/// What would change if anything was: units, files of tercet's, databases, leases.
fn touched(scenario: &Scenario<'_>) -> Result<String> {
    let mut all = String::new();
    for machine in MACHINES {
        all += &scenario.on(
            machine.name,
            "find /etc/tercet /etc/systemd/system /var/lib/tercet /usr/local/lib/tercet/releases -type f -printf '%p %T@\\n' 2>/dev/null | sort; \
             command -v psql >/dev/null && runuser -u postgres -- psql -Atc 'select datname from pg_database order by 1'; true",
        )?;
    }
    Ok(all)
}

/// A copy of the project's folder without its state.
pub(super) fn without_state(scenario: &Scenario<'_>) -> Result<tempfile::TempDir> {
    let copy = tempfile::tempdir()?;
    let from = scenario.project.path();
    std::fs::create_dir(copy.path().join("migrations"))?;
    for entry in std::fs::read_dir(from.join("migrations"))? {
        let entry = entry?;
        std::fs::copy(entry.path(), copy.path().join("migrations").join(entry.file_name()))?;
    }
    std::fs::copy(from.join("tercet.toml"), copy.path().join("tercet.toml"))?;
    Ok(copy)
}

pub(super) fn refusals(scenario: &Scenario<'_>) -> Result<()> {
    let rest = std::fs::read_to_string(scenario.project.path().join("tercet.toml"))?;
    // A clone without the operator's state.
    let clone = without_state(scenario)?;
    refused(
        scenario,
        clone.path(),
        &["lb: it is machine lb (balancer) of project shop", "copy .tercet from"],
    )?;
    ensure!(!clone.path().join(".tercet").exists(), "secrets were made for a fleet that has some");
    // Another project on the same machines.
    let other = without_state(scenario)?;
    std::fs::create_dir_all(other.path().join(".tercet/fleet"))?;
    std::fs::write(other.path().join("tercet.toml"), rest.replace("name = \"shop\"", "name = \"other\""))?;
    let made = std::process::Command::new("sh")
        .args([
            "-c",
            "umask 077; printf another-project > .tercet/fleet/project; cp \"$0\"/authority.* .tercet/fleet/",
        ])
        .arg(scenario.project.path().join(".tercet/fleet"))
        .current_dir(other.path())
        .status()?;
    ensure!(made.success(), "no state of another project");
    refused(scenario, other.path(), &["of project shop", "--take-over"])?;
    // The database under another name, and on another machine.
    std::fs::write(
        scenario.project.path().join("tercet.toml"),
        rest.replace("name = \"shop\"", "name = \"store\""),
    )?;
    refused(
        scenario,
        scenario.project.path(),
        &["database store would start empty", "database shop", "--new-database"],
    )?;
    scenario.write("lb=balancer app1=application app2=application+database db=application", "")?;
    refused(
        scenario,
        scenario.project.path(),
        &["app2: PostgreSQL is not installed", "on db", "--new-database"],
    )?;
    scenario.write(FOUR_MACHINES, "api.db-max-rows = 500")?;
    // The cluster was dropped and created again: another system identifier.
    std::fs::write(scenario.project.path().join("tercet.toml"), &rest)?;
    let data = scenario.project.path().join(".tercet/fleet/data.json");
    let known = std::fs::read_to_string(&data).context("where the data is was not written down")?;
    let cluster = known.split('"').find(|word| word.len() == 19).context("a system identifier")?;
    std::fs::write(&data, known.replace(cluster, "1234567890123456789"))?;
    refused(scenario, scenario.project.path(), &["its PostgreSQL cluster is another one", cluster])?;
    std::fs::write(&data, known)?;
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("nothing to do"), "{plan}");
    Ok(())
}
