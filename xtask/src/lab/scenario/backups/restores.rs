//! Restores: beside the database and in its place, under load, and killed on the way.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::super::interrupted::{self, Side, each_operation};
use super::super::{MIGRATION, Scenario, nothing_to_do};
use super::served_or_told_to_wait;
use crate::lab::traffic::{Kind, Outcome};

/// A moment, as `--to` takes it and in microseconds since 1970, and what SQL prints of it.
struct Moment {
    text: String,
    micros: u64,
}

/// The database's time, `before` seconds ago.
fn moment(scenario: &Scenario<'_>, before: u32) -> Result<Moment> {
    let printed = scenario.sql(&format!(
        "with it as (select clock_timestamp() - interval '{before} s' as t) select \
         to_char(t at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), (extract(epoch from t) * 1000000)::int8 from it"
    ))?;
    let (text, micros) = printed.split_once('|').with_context(|| printed.clone())?;
    Ok(Moment { text: text.to_owned(), micros: micros.parse()? })
}

/// Checks that a database has the rows that were committed until then, and no other: those acknowledged before are there,
/// those sent after are not, and since the client sends one after the other, at most one is in between.
fn exactly(outcome: &Outcome, rows: &str, until: &Moment) -> Result<()> {
    let rows: BTreeSet<u64> = rows.lines().map(str::parse).collect::<Result<_, _>>()?;
    let there = |number: u64| rows.contains(&number);
    let all = &outcome.acknowledged;
    let lost: Vec<_> = all.iter().filter(|it| it.answered <= until.micros && !there(it.number)).collect();
    let late: Vec<_> = all.iter().filter(|it| it.sent > until.micros && there(it.number)).collect();
    ensure!(lost.is_empty(), "acknowledged before {} and lost: {lost:?}", until.text);
    ensure!(late.is_empty(), "sent after {} and restored: {late:?}", until.text);
    let acknowledged: BTreeSet<u64> = all.iter().map(|it| it.number).chain([0]).collect();
    let strange: Vec<_> = rows.difference(&acknowledged).collect();
    ensure!(strange.is_empty(), "never acknowledged, and there: {strange:?}");
    ensure!(rows.len() > 10 && rows.len() < acknowledged.len(), "{} of {} rows", rows.len(), all.len());
    Ok(())
}

/// Runs a query on the copy by the command that `restore` prints.
fn look(scenario: &Scenario<'_>, printed: &str, query: &str) -> Result<String> {
    let line = printed.lines().find(|line| line.contains("psql ")).with_context(|| printed.to_owned())?;
    let command =
        line.find("runuser").or_else(|| line.find("psql")).map(|at| line[at..].trim_end_matches(['`', '"']));
    let command = command.with_context(|| line.to_owned())?;
    scenario.on("vault", &format!("cd /; {command} -XAtqc '{query}'"))
}

/// The table is gone; its rows are in the copy, up to a second before.
pub(super) fn beside(scenario: &Scenario<'_>) -> Result<()> {
    let traffic = scenario.traffic(Kind::Write)?;
    std::thread::sleep(Duration::from_secs(4));
    let before = moment(scenario, 1)?;
    scenario.sql("drop table event")?;
    let outcome = traffic.stop()?;
    let restored = looked_at(scenario, &outcome, &before);
    scenario.sql(MIGRATION)?;
    scenario.answered(Duration::from_secs(30))?;
    restored?;
    // A time that is not in the archive is refused, and named.
    let printed = scenario.fail("restore", &["--to", "2020-01-01T00:00:00Z"])?;
    super::named(&printed, &["2020-01-01"])
}

fn looked_at(scenario: &Scenario<'_>, outcome: &Outcome, before: &Moment) -> Result<()> {
    let printed = scenario.succeed("restore", &["--to", &before.text])?;
    let rows = look(scenario, &printed, "select number from event order by 1")?;
    exactly(outcome, &rows, before)?;
    let gone = scenario.sql("select to_regclass('event') is null")?;
    ensure!(gone == "t", "the running database was touched");
    scenario.succeed("restore", &["--drop"])?;
    let left = scenario.on("vault", "pgrep -ax postgres || true; ls -A /var/lib/tercet-backup")?;
    ensure!(
        !left.contains("postgres") && left.lines().all(|it| it != "restored"),
        "the copy is left:\n{left}"
    );
    Ok(())
}

/// Rows, and the moment before they are deleted.
fn mistake(scenario: &Scenario<'_>, first: u64) -> Result<(Moment, String)> {
    let traffic = scenario.traffic_from(Kind::Write, first)?;
    std::thread::sleep(Duration::from_secs(1));
    let outcome = traffic.stop()?;
    ensure!(!outcome.acknowledged.is_empty(), "nothing was written: {:?}", outcome.examples);
    let count = scenario.sql("select count(*) from event")?;
    let before = moment(scenario, 0)?;
    scenario.sql("delete from event")?;
    Ok((before, count))
}

pub(super) fn in_place(scenario: &Scenario<'_>) -> Result<()> {
    let (before, count) = mistake(scenario, 1000)?;
    let rows = || scenario.sql("select count(*) from event");
    let traffic = scenario.traffic(Kind::Read)?;
    let printed = scenario.succeed("restore", &["--to", &before.text, "--replace", "--yes", "shop"])?;
    scenario.answered(Duration::from_secs(10))?;
    served_or_told_to_wait(&traffic.stop()?).with_context(|| printed.clone())?;
    ensure!(rows()? == count, "{} rows instead of {count}", rows()?);
    nothing_to_do(scenario)?;
    let traffic = scenario.traffic(Kind::Read)?;
    scenario.succeed("restore", &["--undo", "--yes", "shop"])?;
    scenario.answered(Duration::from_secs(10))?;
    served_or_told_to_wait(&traffic.stop()?)?;
    ensure!(rows()? == "0", "{} rows are there again", rows()?);
    // Backups go on after both.
    scenario.succeed("backup", &[])?;
    scenario.check_passes()?;
    nothing_to_do(scenario)
}

/// Moments of a restore in place.
const HALFWAY: &[&str] = &["db: restore", "db: stop"];

/// The operations of a restore in place and of its undo, without the last: after that, the next one would begin anew, and what
/// it replaces is the restored database.
const RESTORE: &[&str] = &["db: archive", "db: restore", "db: stop", "db: set", "vault: start"];
/// Those during which the killed agent is one that the restore still needs: without the start of a backup, which goes on by itself.
const RESTORE_ON_THE_MACHINE: &[&str] = &["db: archive", "db: restore", "db: stop", "db: set"];
const UNDO: &[&str] = &["db: recover", "db: stop", "db: set", "vault: start"];

pub(super) fn killed_halfway(scenario: &Scenario<'_>) -> Result<()> {
    killed_at(scenario, 2000, &[(Side::Operator, HALFWAY, 2)])
}

pub(super) fn killed(scenario: &Scenario<'_>) -> Result<()> {
    killed_at(scenario, 3000, &[(Side::Operator, RESTORE, 5), (Side::Machine, RESTORE_ON_THE_MACHINE, 3)])?;
    // The undo of the last one: the rows are deleted again, whenever it was killed.
    each_operation(scenario, Side::Operator, UNDO, 4, || {
        interrupted::begun_by(scenario, "restore", &["--undo", "--yes", "shop"])
    })?;
    let rows = scenario.sql("select count(*) from event")?;
    ensure!(rows == "0", "{rows} rows are there again");
    scenario.answered(Duration::from_secs(10))?;
    scenario.check_passes()
}

fn killed_at(scenario: &Scenario<'_>, first: u64, how: &[(Side, &[&str], usize)]) -> Result<()> {
    for (number, (side, at, at_least)) in (0..).zip(how) {
        let (before, count) = mistake(scenario, first + number * 500)?;
        let arguments = ["--to", &*before.text, "--replace", "--yes", "shop"];
        each_operation(scenario, *side, at, *at_least, || {
            interrupted::begun_by(scenario, "restore", &arguments)
        })?;
        let rows = scenario.sql("select count(*) from event")?;
        ensure!(rows == count, "{rows} rows instead of {count}");
        scenario.answered(Duration::from_secs(10))?;
        scenario.check_passes()?;
    }
    Ok(())
}
