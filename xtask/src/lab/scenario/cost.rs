//! What backups cost the running database: requests a second with them and without, in interleaved rounds.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::backups::WITH_VAULT;
use super::{Scenario, public_address};
use crate::bench::load;
use crate::bench::report::{self, median, verdict};
use crate::bench::workload::{INSERT, ONE_ROW, SCHEMA, Workload, lua};
use crate::command::output;
use crate::lab::machines::VAULT;
use crate::lab::{Folders, until};
use crate::workspace::Workspace;

/// The share of the requests a second that has to be left.
const GOAL: f64 = 0.95;
/// The requests. Reads first: what the inserts wrote is archived for a while after them, until PostgreSQL stops for the next variant.
const WORKLOADS: [&Workload; 2] = [&ONE_ROW, &INSERT];

/// How to measure.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rounds; the table holds their medians.
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// Seconds of load for each measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Connections of the load.
    #[arg(long, default_value_t = 64)]
    connections: u32,
    /// The binary to measure, instead of a release build of the workspace; the table is then printed and not written.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// How PostgreSQL is configured.
#[derive(Clone, Copy)]
enum Variant {
    /// As tercet does it.
    WithBackups,
    /// PostgreSQL's defaults: no archive, no checksums, `wal_level = replica`; and no heartbeat.
    Without,
}

impl Variant {
    const ALL: [Self; 2] = [Self::WithBackups, Self::Without];

    /// The commands by which the database's machine changes to it.
    const fn script(self) -> &'static str {
        match self {
            Self::WithBackups => {
                "set -e; systemctl stop postgresql@15-main; \
                 if $bin/pg_controldata $data | grep -q 'checksum version: *0$'; then \
                 runuser -u postgres -- $bin/pg_checksums --enable -D $data >/dev/null; fi; \
                 : > $data/postgresql.auto.conf; systemctl start postgresql@15-main tercet-heartbeat.timer"
            }
            Self::Without => {
                "set -e; systemctl stop tercet-heartbeat.timer postgresql@15-main; \
                 runuser -u postgres -- $bin/pg_checksums --disable -D $data >/dev/null; \
                 printf 'archive_mode = off\\nwal_level = replica\\n' > $data/postgresql.auto.conf; systemctl start postgresql@15-main"
            }
        }
    }

    /// What `show` prints for `archive_mode`, `data_checksums` and `wal_level`.
    const fn shown(self) -> &'static str {
        match self {
            Self::WithBackups => "on on logical",
            Self::Without => "off off replica",
        }
    }
}

/// Measures and writes the part of docs/benchmarks.md.
pub(crate) fn run(workspace: &Workspace, folders: &Folders, arguments: &Arguments) -> Result<()> {
    let built = arguments.binary.is_none().then(|| workspace.build_release()).transpose()?;
    folders.down()?;
    let tercet = arguments.binary.as_ref().or(built.as_ref()).expect("a binary is given or built");
    let result = measured(tercet, folders, arguments);
    folders.down()?;
    let text = result?;
    if arguments.binary.is_none() {
        report::write(workspace, "backups", &text)?;
    }
    println!("{text}");
    Ok(())
}

fn measured(tercet: &Path, folders: &Folders, arguments: &Arguments) -> Result<String> {
    let scenario = Scenario::begin(folders, tercet, WITH_VAULT)?;
    fs::remove_file(scenario.project.path().join("migrations/0001_event.sql"))?;
    fs::write(scenario.project.path().join("migrations/0001_shop.sql"), SCHEMA)?;
    scenario.lab.start(VAULT)?;
    scenario.succeed("apply", &["--yes"])?;
    until("the first backup and its check", Duration::from_secs(120), || {
        let running = "systemctl list-units --plain --no-legend --state=activating 'tercet-backup-*.service'";
        Ok(scenario.on("vault", running)?.trim().is_empty())
    })?;
    scenario.on("vault", "systemctl stop 'tercet-backup-*.timer'")?;
    let mut rates = WORKLOADS.map(|_| Variant::ALL.map(|_| Vec::new()));
    for round in 1..=arguments.rounds {
        for variant in Variant::ALL {
            switch(&scenario, variant)?;
            for (workload, rates) in WORKLOADS.into_iter().zip(&mut rates) {
                println!("round {round}: {}, {}", variant.shown(), workload.name);
                sample(&scenario, workload, arguments, 1)?;
                rates[variant as usize].push(sample(&scenario, workload, arguments, arguments.seconds)?);
            }
        }
    }
    // What was measured was archived.
    switch(&scenario, Variant::WithBackups)?;
    scenario.succeed("backup", &[])?;
    Ok(text(&rates, arguments))
}

/// Configures PostgreSQL, and waits until requests are answered again.
fn switch(scenario: &Scenario<'_>, variant: Variant) -> Result<()> {
    let names = "bin=/usr/lib/postgresql/15/bin data=/var/lib/postgresql/15/main; ";
    scenario.on("db", &format!("{names}{}", variant.script()))?;
    let show = "select concat_ws(' ', current_setting('archive_mode'), current_setting('data_checksums'), current_setting('wal_level'))";
    let shown = scenario.on("db", &format!("runuser -u postgres -- psql -XAtc \"{show}\""))?;
    ensure!(shown.trim() == variant.shown(), "PostgreSQL has {shown}");
    until("an answer", Duration::from_secs(60), || {
        Ok(scenario.get("/item?id=eq.1").is_ok_and(|it| it.starts_with("HTTP/1.1 200")))
    })?;
    // A checkpoint in the middle of one measurement only would be luck.
    scenario.on("db", "runuser -u postgres -- psql -qc 'truncate visit' -c checkpoint shop").map(drop)
}

/// Requests a second.
fn sample(scenario: &Scenario<'_>, workload: &Workload, arguments: &Arguments, seconds: u32) -> Result<f64> {
    let script = tempfile::NamedTempFile::with_suffix(".lua")?;
    fs::write(script.path(), lua(&workload.data_api, workload.keys))?;
    let mut wrk = scenario.lab.at("internet")?;
    wrk.args(["wrk", "--latency", "--threads", "1", "--connections", &arguments.connections.to_string()]);
    wrk.args(["--duration", &format!("{seconds}s"), "--script"]).arg(script.path());
    let printed = output(wrk.arg(format!("http://{}", public_address())))?;
    let outcome = load::parse(&printed).with_context(|| printed.clone())?;
    ensure!(outcome.failures == 0, "{} of {} requests failed", outcome.failures, outcome.requests);
    Ok(outcome.rate)
}

fn text(rates: &[[Vec<f64>; 2]; 2], arguments: &Arguments) -> String {
    let mut text = format!(
        "## Backups\n\nThe whole system in the lab (four machines and a fifth with the repository, containers on one host that share all cores): `archive_command` \
         to the other machine, data checksums, `wal_level = logical` and the heartbeat, and without them. {} rounds of {} s, interleaved, \
         medians, {} connections.\n\n\
         | request | with backups, requests/s | without | ratio | goal | |\n|---|---|---|---|---|---|\n",
        arguments.rounds, arguments.seconds, arguments.connections
    );
    for (workload, [with, without]) in WORKLOADS.iter().zip(rates) {
        let (with, without) = (median(with), median(without));
        let ratio = with / without;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {with:.0} | {without:.0} | {ratio:.2} × | ≥ {GOAL} × | {} |",
            workload.name,
            verdict(ratio >= GOAL)
        );
    }
    text
}
