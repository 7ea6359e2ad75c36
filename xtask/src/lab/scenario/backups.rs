//! Backups on a machine of their own: set up, restored beside the database and in its place, damaged, interrupted.

mod damage;
mod moving;
pub(super) mod object_store;
mod restores;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{Named, Scenario, nothing_to_do};
use crate::lab::machines::VAULT;
use crate::lab::traffic::Outcome;
use crate::lab::until;

/// The machines, with one for the backups.
pub(super) const WITH_VAULT: &str = "lb=balancer app1=application app2=application db=database vault=backup";
/// How much longer the first apply may take with backups: until the first one has passed its check.
const SET_UP: Duration = Duration::from_secs(90);

pub(super) const STAGES: &[Named] = &[
    ("a machine for backups: within 90 s there is a full backup that passed its check", set_up),
    ("the backup protocol is open on its two edges, and nowhere else", edges),
    ("a dropped table under load, restored beside the database to the second before", restores::beside),
    ("restored in place and undone under load: 503 with Retry-After meanwhile", restores::in_place),
    ("a restore in place killed halfway goes on", restores::killed_halfway),
    (KILLED, restores::killed),
    ("damage to the repository and the database is named by its cause", damage::often),
    (RARE, damage::rare),
    (POWER_CUT, power_cut),
    (MOVED, moving::moved),
];

/// The stages that take minutes each.
pub(super) const KILLED: &str = "a restore in place killed at every operation goes on";
pub(super) const POWER_CUT: &str = "power cut of the database in the middle of a backup";
pub(super) const MOVED: &str =
    "the database moved to another machine and back, under load: nothing acknowledged is lost";
pub(super) const RARE: &str = "damage of rarer kinds is named by its cause";

fn set_up(scenario: &Scenario<'_>) -> Result<()> {
    let begin = Instant::now();
    scenario.succeed("apply", &["--yes"])?;
    let without = begin.elapsed();
    for verb in ["status", "prove"] {
        let printed = scenario.succeed(verb, &[])?;
        ensure!(printed.contains("backup: none"), "{verb} does not warn of missing backups:\n{printed}");
    }
    scenario.lab.start(VAULT)?;
    scenario.write(WITH_VAULT, "")?;
    let begin = Instant::now();
    let printed = scenario.succeed("apply", &["--yes"])?;
    ensure!(printed.contains("proven:"), "apply does not end with proof:\n{printed}");
    let set_up = begin.elapsed();
    let list = backups(scenario)?;
    ensure!(list.iter().any(|it| it.kind == "full" && it.passed == Some(true)), "{list:?}");
    println!("apply: {:.0} s, and {:.0} s for the backups", without.as_secs_f64(), set_up.as_secs_f64());
    // A host with other work is slower at both.
    ensure!(set_up <= SET_UP.max(3 * without), "the backups were set up after {set_up:?}");
    nothing_to_do(scenario)
}

/// `prove` tries port 8432 of both machines from everywhere.
fn edges(scenario: &Scenario<'_>) -> Result<()> {
    let printed = scenario.succeed("prove", &["--json"])?;
    let checks: Vec<Value> = serde_json::from_str(&printed).with_context(|| printed.clone())?;
    let tested = checks.iter().filter(|it| it["address"].as_str().is_some_and(|it| it.ends_with(":8432")));
    let (open, closed): (Vec<&Value>, Vec<&Value>) = tested.partition(|it| it["drawn"] == true);
    let open: Vec<_> =
        open.iter().map(|it| (it["from"].as_str(), it["to"].as_str(), it["address"].as_str())).collect();
    let expected = [
        (Some("db"), Some("vault"), Some("10.77.0.30:8432")),
        (Some("vault"), Some("db"), Some("10.77.0.20:8432")),
    ];
    ensure!(expected.iter().all(|edge| open.contains(edge)) && open.len() == 2, "open: {open:?}");
    ensure!(closed.len() >= 30, "only {} forbidden connections are tried", closed.len());
    // Not only by the machines' own firewalls' word.
    for (from, to) in
        [("app1", "10.77.0.30"), ("lb", "10.77.0.20"), ("db", "10.77.0.30"), ("vault", "10.77.0.20")]
    {
        let open = scenario
            .on(from, &format!("timeout 2 bash -c '</dev/tcp/{to}/8432' 2>&1 && echo open || true"))?;
        let is_edge = matches!(from, "db" | "vault");
        ensure!(open.contains("open") == is_edge, "{from} → {to}:8432: {open}");
    }
    scenario.on("vault", "nft add rule inet tercet input tcp dport 8432 accept")?;
    let printed = scenario.fail("prove", &[])?;
    ensure!(printed.contains("FAIL app1 → vault 10.77.0.30:8432"), "prove did not find the hole:\n{printed}");
    scenario.succeed("apply", &["--yes"])?;
    nothing_to_do(scenario)
}

/// A backup, as `tercet backup list --json` shows it.
#[derive(Debug)]
struct Listed {
    id: String,
    kind: String,
    /// Whether it passed its check; none before its first.
    passed: Option<bool>,
}

fn backups(scenario: &Scenario<'_>) -> Result<Vec<Listed>> {
    let printed = scenario.succeed("backup", &["list", "--json"])?;
    let list: Value = serde_json::from_str(&printed).with_context(|| printed.clone())?;
    let list = list["backups"].as_array().with_context(|| printed.clone())?;
    let text = |backup: &Value, key: &str| {
        backup[key].as_str().map(str::to_owned).with_context(|| format!("no {key} in {backup}"))
    };
    list.iter()
        .map(|backup| {
            Ok(Listed {
                id: text(backup, "id")?,
                kind: text(backup, "kind")?,
                passed: backup["checked"]["findings"]
                    .as_array()
                    .map(|findings| findings.iter().all(|it| it["outcome"] != "failed")),
            })
        })
        .collect()
}

impl Scenario<'_> {
    /// What a query of the running database returns, as psql prints it unaligned.
    pub(super) fn sql(&self, query: &str) -> Result<String> {
        self.sql_on("db", query)
    }

    fn sql_on(&self, machine: &str, query: &str) -> Result<String> {
        let quoted = query.replace('\'', "'\\''");
        let text = self.on(
            machine,
            &format!("runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -d shop -c '{quoted}'"),
        )?;
        Ok(text.trim().to_owned())
    }

    /// Checks the newest backup, which must pass.
    fn check_passes(&self) -> Result<()> {
        self.succeed("backup", &["check", "latest"]).map(drop)
    }

    /// Checks the newest backup, which must fail and name all of `causes`.
    fn check_fails(&self, causes: &[&str]) -> Result<()> {
        let printed = self.fail("backup", &["check", "latest"])?;
        named(&printed, causes)?;
        let list = backups(self)?;
        ensure!(list.last().is_some_and(|it| it.passed == Some(false)), "shown as good: {list:?}");
        Ok(())
    }

    /// Starts a service that must fail; all causes must be in its journal.
    fn unit_fails(&self, machine: &str, unit: &str, causes: &[&str]) -> Result<()> {
        let begin = self.on(machine, "date +%s.%N")?;
        let started = self.on(
            machine,
            &format!("systemctl reset-failed {unit}; systemctl start {unit} && echo succeeded || true"),
        )?;
        let journal = self.on(
            machine,
            &format!("journalctl --sync; journalctl -o cat -u {unit} --since @{}", begin.trim()),
        )?;
        ensure!(!started.contains("succeeded"), "{unit} succeeded:\n{journal}");
        named(&journal, causes)
    }
}

/// Checks that a text has all of these.
fn named(text: &str, causes: &[&str]) -> Result<()> {
    let missing: Vec<_> = causes.iter().filter(|cause| !text.contains(**cause)).collect();
    ensure!(missing.is_empty(), "{missing:?} is not named:\n{text}");
    Ok(())
}

/// Checks what the clients saw while the database was replaced.
fn served_or_told_to_wait(outcome: &Outcome) -> Result<()> {
    let Outcome { statuses, unannounced, slowest, examples, .. } = outcome;
    let allowed = statuses.keys().all(|status| matches!(status, 200 | 201 | 503));
    ensure!(allowed, "not only successes and 503: {statuses:?}, {examples:?}");
    ensure!(statuses.get(&503).is_some_and(|count| *count > 0), "the database was never away: {statuses:?}");
    ensure!(*unannounced == 0, "{unannounced} answers 503 have no Retry-After");
    ensure!(*slowest <= 5000, "a request took {slowest} ms");
    Ok(())
}

/// The machine of the database loses its power during a full backup: that is no backup, and the next one is.
fn power_cut(scenario: &Scenario<'_>) -> Result<()> {
    let before: Vec<String> = backups(scenario)?.into_iter().map(|it| it.id).collect();
    let mut backup = super::interrupted::begun_by(scenario, "backup", &["--full"])?.spawn()?;
    until("a backup at work", Duration::from_secs(30), || {
        if let Some(status) = backup.try_wait()? {
            bail!("the backup ended before the power cut: {status}");
        }
        let query = "select count(*) from pg_stat_activity where application_name like 'pgBackRest%backup%'";
        Ok(scenario.sql(query)? != "0")
    })?;
    let db = crate::lab::machines::Machine::named("db")?;
    scenario.lab.cut(db)?;
    let output = backup.wait_with_output()?;
    ensure!(!output.status.success(), "a backup without a database");
    scenario.lab.start(db)?;
    scenario.answered(Duration::from_secs(60))?;
    let after: Vec<String> = backups(scenario)?.into_iter().map(|it| it.id).collect();
    ensure!(before == after, "half a backup is listed: {before:?}, {after:?}");
    scenario.succeed("backup", &["--full"])?;
    scenario.check_passes()
}
