//! The operator state, shared: pushed, pulled by a second operator who then applies, and a folder that is behind refused.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use super::identity::{refused_to, without_state};
use super::{Scenario, lossless};
use crate::lab::machines::MACHINES;
use crate::lab::traffic::Kind;

/// Where a machine keeps it.
const FILE: &str = "/var/lib/tercet/operator-state";

pub(super) fn shared(scenario: &Scenario<'_>) -> Result<()> {
    let ann = scenario.project.path();
    let file = fs::read_to_string(ann.join("tercet.toml"))?;
    let printed = scenario.succeed("apply", &["--yes"])?;
    ensure!(
        printed.contains("are only in this folder's .tercet"),
        "it is not printed that the state is only here: {printed}"
    );

    // Without recipients: a passphrase, from a file.
    let secrets = tempfile::tempdir()?;
    let passphrase = secrets.path().join("passphrase");
    fs::write(&passphrase, "a passphrase of the lab\n")?;
    let passphrase = passphrase.to_str().context("a path that is text")?;
    scenario.end_with(2, "state", &["push"])?;
    let printed = scenario.succeed("state", &["push", "--passphrase-file", passphrase])?;
    ensure!(printed.contains("generation 1 of the operator state is now on lb, app1, app2, db"), "{printed}");
    let authority = fingerprint(&printed)?;
    unreadable(scenario, ann)?;

    // A clone is referred to `tercet state pull`, and trusts no authority by itself.
    let clone = without_state(scenario)?;
    let bob = clone.path();
    refused_to(
        scenario,
        "apply",
        &["--yes"],
        bob,
        &["this folder has no state", "`tercet state pull` fetches"],
    )?;
    let pull = ["pull", "--passphrase-file", passphrase];
    refused_to(scenario, "state", &pull, bob, &["no trusted authority is named", &authority])?;
    let wrong = secrets.path().join("wrong");
    fs::write(&wrong, "another passphrase\n")?;
    let wrong = ["pull", "--authority", &authority, "--passphrase-file", wrong.to_str().context("text")?];
    refused_to(scenario, "state", &wrong, bob, &["wrong passphrase"])?;
    let other = format!("sha256:{:064}", 0);
    let other = ["pull", "--authority", &other, "--passphrase-file", passphrase];
    refused_to(scenario, "state", &other, bob, &["lb: the operator state there is signed by authority"])?;
    ensure!(!bob.join(".tercet").exists(), "a refused pull left something");
    let printed = run_in(scenario, "state", &[&pull[..], &["--authority", &authority]].concat(), bob)?;
    ensure!(printed.contains("this folder has generation 1"), "{printed}");
    let printed = run_in(scenario, "plan", &[], bob)?;
    ensure!(printed.contains("nothing to do"), "what was pulled differs from what is there: {printed}");

    // With recipients, apply pushes: Bob replaces the application servers' certificate.
    let key = secrets.path().join("identity");
    let key = key.to_str().context("a path that is text")?;
    let public = crate::command::output(
        scenario.lab.at("operator")?.arg(&scenario.tercet).args(["state", "identity", key]),
    )?;
    let text = format!("{file}\n[state]\nrecipients = [{:?}]\nauthority = {authority:?}\n", public.trim());
    for folder in [ann, bob] {
        fs::write(folder.join("tercet.toml"), &text)?;
    }
    fs::remove_file(bob.join(".tercet/fleet/application.crt"))?;
    let traffic = scenario.traffic(Kind::Read)?;
    let printed = run_in(scenario, "apply", &["--yes"], bob)?;
    lossless(&traffic.stop()?)?;
    ensure!(printed.contains("generation 2 of the operator state is now on lb, app1, app2, db"), "{printed}");
    unreadable(scenario, bob)?;
    let printed = run_in(scenario, "apply", &["--yes"], bob)?;
    ensure!(!printed.contains("is now on"), "a state that has not changed was pushed again: {printed}");

    // Ann is behind, and would put the old certificate back.
    let behind =
        ["it has generation 2 of the operator state", "this folder has generation 1", "tercet state pull"];
    for (verb, arguments) in [("plan", &[][..]), ("apply", &["--yes"]), ("rollback", &["--yes"])] {
        refused_to(scenario, verb, arguments, ann, &behind)?;
    }
    refused_to(scenario, "state", &["push"], ann, &["generation 2", "which was not made from that"])?;

    // One machine's copy is damaged: another one is used, and the next push replaces it.
    scenario.on("lb", &format!("sed -i 's/\"generation\":2/\"generation\":7/' {FILE}"))?;
    let pull = ["pull", "--identity", key];
    let printed = run_in(scenario, "state", &pull, ann)?;
    ensure!(printed.contains("found on app1, app2, db: generation 2"), "{printed}");
    let printed = run_in(scenario, "plan", &[], ann)?;
    ensure!(printed.contains("nothing to do"), "what was pulled differs from what is there: {printed}");
    let printed = run_in(scenario, "state", &["push"], ann)?;
    ensure!(printed.contains("generation 2 of the operator state is now on lb"), "{printed}");
    let printed = run_in(scenario, "state", &[], ann)?;
    ensure!(
        printed.matches("encrypted to").count() == 1 && printed.matches("1 recipient").count() == 5,
        "{printed}"
    );
    Ok(fs::write(ann.join("tercet.toml"), file)?)
}

/// Runs a verb in a folder, where it must succeed; what it printed.
fn run_in(scenario: &Scenario<'_>, verb: &str, arguments: &[&str], folder: &Path) -> Result<String> {
    let output = scenario.tercet(verb, arguments)?.arg(folder).stdin(Stdio::null()).output()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tercet {verb} {}: {printed}{errors}", arguments.join(" "));
    Ok(printed)
}

/// The fingerprint that a push prints.
fn fingerprint(printed: &str) -> Result<String> {
    let words = printed.split(|c: char| c.is_whitespace() || c == '"');
    let fingerprint = words.into_iter().find(|word| word.starts_with("sha256:"));
    Ok(fingerprint.with_context(|| format!("no fingerprint is printed: {printed}"))?.to_owned())
}

/// Each machine has the state, for root alone, and none of its secrets can be read there.
fn unreadable(scenario: &Scenario<'_>, folder: &Path) -> Result<()> {
    let fleet = folder.join(".tercet/fleet");
    for machine in MACHINES {
        let listed = scenario.on(machine.name, &format!("stat -c '%U:%G %a' {FILE}; cat {FILE}"))?;
        let (attributes, text) = listed.split_once('\n').context("attributes and a text")?;
        ensure!(attributes == "root:root 600", "{}: {attributes}", machine.name);
        for name in ["authenticator", "authority.key"] {
            let secret = fs::read_to_string(fleet.join(name))?;
            let word = secret.lines().find(|line| !line.starts_with("--")).context("a secret")?;
            ensure!(!text.contains(word), "{}: {name} can be read", machine.name);
        }
    }
    Ok(())
}
