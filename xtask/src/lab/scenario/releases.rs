//! Releases: rolled, gone back from, refused, interrupted.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{FOUR_MACHINES, Scenario, lossless};
use crate::lab::traffic::Kind;
use crate::lab::until;

pub(super) fn leases(scenario: &Scenario<'_>) -> Result<()> {
    let now = scenario.on("db", "date +%s")?;
    let lease = |expires: u64| {
        format!(
            "mkdir -p /var/lib/tercet; printf '{{\"owner\":\"ann@desk\",\"token\":\"t\",\"expires\":{expires},\"fence\":7,\
             \"taken_over_from\":null}}' > /var/lib/tercet/lease.json"
        )
    };
    let now: u64 = now.trim().parse()?;
    scenario.write(FOUR_MACHINES, "api.db-max-rows = 900")?;
    scenario.on("db", &lease(now + 3600))?;
    let printed = scenario.fail("apply", &["--yes"])?;
    ensure!(
        printed.contains("db: ann@desk is changing this machine"),
        "the holder of the lease is not named:\n{printed}"
    );
    // The other machines were not changed, and their leases were released.
    let lb = scenario.on("lb", "cat /var/lib/tercet/lease.json")?;
    ensure!(lb.contains("\"owner\":\"\""), "lb's lease was kept: {lb}");
    scenario.on("db", &lease(now - 1))?;
    let output = scenario.outcome("apply", &["--yes"])?;
    let printed = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && printed.contains("lease of ann@desk had expired"), "{printed}");
    Ok(())
}

pub(super) fn under_load(scenario: &Scenario<'_>) -> Result<()> {
    let traffic = scenario.traffic(Kind::Read)?;
    scenario.write(FOUR_MACHINES, "api.db-max-rows = 500")?;
    let printed = scenario.succeed("apply", &["--yes"])?;
    ensure!(
        printed.contains("start app-1 of release") && printed.contains("start app-2 of release"),
        "no release was rolled:\n{printed}"
    );
    scenario.succeed("rollback", &["--yes"])?;
    lossless(&traffic.stop()?)?;
    let units = scenario.on("app1", "systemctl list-units --all --plain --no-legend 'tercet-app-*'")?;
    ensure!(units.lines().count() == 1, "more than one server is left on app1:\n{units}");
    // The file describes the newer release again.
    scenario.succeed("apply", &["--yes"]).map(drop)
}

pub(super) fn taken_back(scenario: &Scenario<'_>) -> Result<()> {
    let before = scenario.on("app1", "systemctl list-units --plain --no-legend 'tercet-app-*'")?;
    let traffic = scenario.traffic(Kind::Read)?;
    scenario.write(FOUR_MACHINES, "api.jwt-role-claim-key = \"role[\"")?;
    let printed = scenario.fail("apply", &["--yes"])?;
    ensure!(printed.contains("the previous application servers serve again"), "{printed}");
    ensure!(printed.contains("failed to parse"), "the server's own message is not printed:\n{printed}");
    lossless(&traffic.stop()?)?;
    let after = scenario.on("app1", "systemctl list-units --plain --no-legend 'tercet-app-*'")?;
    ensure!(before == after, "app1 ran\n{before}and now\n{after}");
    scenario.write(FOUR_MACHINES, "api.db-max-rows = 500")?;
    scenario.succeed("apply", &["--yes"]).map(drop)
}

/// A migration without anything else that is new: applied once, and known to the data API.
pub(super) fn migration(scenario: &Scenario<'_>) -> Result<()> {
    let file = scenario.project.path().join("migrations/0002_note.sql");
    std::fs::write(file, "alter table event add note text;\n")?;
    let plan = scenario.succeed("plan", &[])?;
    ensure!(
        plan.contains("db: migrate the database: 0002_note.sql"),
        "plan does not show the migration:\n{plan}"
    );
    scenario.succeed("apply", &["--yes"])?;
    until("the new column's answer", Duration::from_secs(10), || {
        Ok(scenario.get("/event?select=note&number=eq.0")?.contains("[{\"note\":null}]"))
    })?;
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("nothing to do"), "the second plan has steps:\n{plan}");
    Ok(())
}

/// Another secret for tokens and another certificate for PostgreSQL: servers are replaced one after the other, PostgreSQL
/// reads its certificate again without a restart.
pub(super) fn secrets_changed(scenario: &Scenario<'_>) -> Result<()> {
    let started = "runuser -u postgres -- psql -Atc 'select pg_postmaster_start_time()'";
    let before = scenario.on("db", started)?;
    let certificate = scenario.on("db", "sha256sum /etc/tercet/postgresql/server.crt")?;
    let traffic = scenario.traffic(Kind::Read)?;
    std::fs::remove_file(scenario.project.path().join(".tercet/fleet/database-10.77.0.20.crt"))?;
    std::fs::remove_file(scenario.project.path().join(".tercet/fleet/application.crt"))?;
    std::fs::remove_file(scenario.project.path().join(".tercet/jwt-secret"))?;
    let printed = scenario.succeed("apply", &["--yes"])?;
    lossless(&traffic.stop()?)?;
    ensure!(!printed.contains("ship release"), "the release is another:\n{printed}");
    let after = scenario.on("db", "sha256sum /etc/tercet/postgresql/server.crt")?;
    ensure!(certificate != after, "PostgreSQL has the same certificate");
    ensure!(before == scenario.on("db", started)?, "PostgreSQL was restarted");
    let folders = scenario.on("app1", "ls -d /etc/tercet/credentials/application-*")?;
    ensure!(folders.lines().count() == 1, "old credentials are left:\n{folders}");
    Ok(())
}

/// What an operator confirms is what runs: if another operator was faster, the difference is shown and has to be confirmed.
pub(super) fn confirmed(scenario: &Scenario<'_>) -> Result<()> {
    scenario.write(FOUR_MACHINES, "api.db-max-rows = 601")?;
    let mut slow = Prompt::begin(scenario)?;
    slow.until("apply? [y/N] ")?;
    scenario.write(FOUR_MACHINES, "api.db-max-rows = 602")?;
    scenario.succeed("apply", &["--yes"])?;
    slow.answer("y")?;
    let printed = slow.until("apply? [y/N] ")?;
    ensure!(printed.contains("the machines have changed since this plan was made"), "{printed}");
    slow.answer("n")?;
    slow.until("nothing was changed")?;
    let plan = scenario.succeed("plan", &[])?;
    ensure!(plan.contains("nothing to do"), "the other operator's release was undone:\n{plan}");
    Ok(())
}

/// An apply with its question on a terminal.
struct Prompt {
    child: Child,
}

impl Prompt {
    fn begin(scenario: &Scenario<'_>) -> Result<Self> {
        let mut apply = scenario.tercet("apply", &[])?;
        apply.arg(scenario.project.path());
        let words = [apply.get_program()].into_iter().chain(apply.get_args());
        let words: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let mut script = Command::new("script");
        script.args(["-q", "-f", "-e", "-c", &words.join(" "), "/dev/null"]);
        let child = script.env("NO_COLOR", "1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        Ok(Self { child })
    }

    /// Reads until `text` was printed; all that was printed.
    fn until(&mut self, text: &str) -> Result<String> {
        let output = self.child.stdout.as_mut().context("standard output is piped")?;
        let mut printed = Vec::new();
        while !String::from_utf8_lossy(&printed).contains(text) {
            let mut byte = [0];
            ensure!(output.read(&mut byte)? == 1, "it ended: {}", String::from_utf8_lossy(&printed));
            printed.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    fn answer(&mut self, text: &str) -> Result<()> {
        Ok(writeln!(self.child.stdin.as_mut().context("standard input is piped")?, "{text}")?)
    }
}

impl Drop for Prompt {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
