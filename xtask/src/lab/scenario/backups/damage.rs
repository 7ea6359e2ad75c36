//! Damage of every kind, one after the other: each is named by its cause before the next, and mended.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::super::Scenario;
use super::super::identity::without_state;
use super::{backups, named};
use crate::lab::until;

/// The repository of pgBackRest.
const REPOSITORY: &str = "/var/lib/tercet-backup/repository";

/// The kinds that a short test has time for.
pub(super) fn often(scenario: &Scenario<'_>) -> Result<()> {
    scenario.succeed("backup", &["--full"])?;
    data_file(scenario).context("a flipped byte in a data file of the repository")?;
    segment(scenario, "rm").context("a deleted segment")?;
    archive_stopped(scenario).context("the archive is stopped")?;
    heap_page(scenario).context("a damaged heap page")?;
    operator_state(scenario).context("the operator's state is lost")?;
    scenario.check_passes()
}

/// The others.
pub(super) fn rare(scenario: &Scenario<'_>) -> Result<()> {
    scenario.succeed("backup", &["--full"])?;
    manifest(scenario).context("a flipped byte in a manifest")?;
    segment(scenario, FLIP).context("a flipped byte in a segment")?;
    repository_full(scenario).context("a full repository")?;
    clone(scenario).context("a clone of the database's machine")?;
    scenario.check_passes()
}

/// Changes a byte in the middle of the file `$0`; its time stays.
const FLIP: &str = "flip() { cp -p \"$1\" /run/time; printf '\\252' | dd of=\"$1\" bs=1 seek=$(($(stat -c %s \"$1\") / 2)) conv=notrunc status=none; touch -r /run/time \"$1\"; }; flip";

/// Damages a file of the repository, as root, checks that the check of the newest backup fails with these causes, and
/// puts the file back.
fn in_repository(scenario: &Scenario<'_>, find: &str, how: &str, causes: &[&str]) -> Result<()> {
    let file = scenario.on("vault", find)?;
    let file = file.trim();
    ensure!(file.starts_with('/') && file.lines().count() == 1, "no file to damage: {file:?}");
    scenario.on("vault", &format!("cp -p {file} /run/undamaged; {how} {file}"))?;
    let name = file.rsplit('/').next().context("a name")?;
    let name = name.split('-').next().unwrap_or(name);
    let result = scenario.check_fails(&[causes, &[name]].concat());
    scenario.on("vault", &format!("cp -p /run/undamaged {file}"))?;
    result.with_context(|| file.to_owned())?;
    scenario.check_passes()
}

fn data_file(scenario: &Scenario<'_>) -> Result<()> {
    let find = format!(
        "find {REPOSITORY}/backup/shop/$(ls {REPOSITORY}/backup/shop | grep F$ | tail -1) -type f -path '*bundle*' -size +64k | sort | tail -1"
    );
    in_repository(scenario, &find, FLIP, &[])
}

fn manifest(scenario: &Scenario<'_>) -> Result<()> {
    let find = format!(
        "ls {REPOSITORY}/backup/shop/$(ls {REPOSITORY}/backup/shop | grep F$ | tail -1)/backup.manifest"
    );
    in_repository(scenario, &find, FLIP, &[])
}

/// The first segment after the newest backup, which has to be replayed.
fn segment(scenario: &Scenario<'_>, how: &str) -> Result<()> {
    scenario.sql("select pg_switch_wal()")?;
    scenario.sql("create table if not exists filler (number int); insert into filler values (1); select pg_switch_wal()")?;
    archived(scenario)?;
    let find = format!("find {REPOSITORY}/archive/shop -type f -name '*.zst' | sort | tail -2 | head -1");
    in_repository(scenario, &find, how, &[])
}

/// Waits until no complete segment waits to be archived.
fn archived(scenario: &Scenario<'_>) -> Result<()> {
    until("the archiver", Duration::from_secs(30), || {
        let ready = scenario
            .on("db", "ls /var/lib/postgresql/15/main/pg_wal/archive_status | grep -c ready$ || true")?;
        Ok(ready.trim() == "0")
    })
}

/// Fails to archive until `mend`; the heartbeat names the cause, without the minute for which it waits.
fn archiving_fails(scenario: &Scenario<'_>, causes: &[&str]) -> Result<()> {
    scenario.sql("insert into filler values (2); select pg_switch_wal()")?;
    until("a failure of the archiver", Duration::from_secs(60), || {
        let query = "select count(*) from pg_stat_archiver where last_failed_time > coalesce(last_archived_time, '-infinity')";
        Ok(scenario.sql(query)? == "1")
    })?;
    scenario
        .on("db", "touch -d '5 minutes ago' /var/lib/postgresql/15/main/pg_wal/archive_status/*.ready")?;
    scenario.unit_fails("db", "tercet-heartbeat.service", causes)?;
    let metrics = scenario.on("db", "cat /var/lib/tercet/metrics/*.prom")?;
    named(&metrics, &["tercet_archive_failing 1"])?;
    let printed = scenario.outcome("status", &[])?;
    named(&String::from_utf8_lossy(&printed.stdout), &["archiv"])
}

/// It archives again, and all is well.
fn archiving_recovers(scenario: &Scenario<'_>) -> Result<()> {
    until("the archiver, again", Duration::from_secs(90), || {
        scenario.on("db", "systemctl reset-failed tercet-heartbeat.service; systemctl start tercet-heartbeat.service || true")?;
        let ready = scenario
            .on("db", "ls /var/lib/postgresql/15/main/pg_wal/archive_status | grep -c ready$ || true")?;
        Ok(ready.trim() == "0")
    })?;
    scenario
        .on("db", "systemctl reset-failed tercet-heartbeat.service; systemctl start tercet-heartbeat.service")
        .map(drop)
}

fn archive_stopped(scenario: &Scenario<'_>) -> Result<()> {
    // pgBackRest tries to connect for a minute or two; here for seconds.
    let impatient = "/etc/pgbackrest/conf.d/lab.conf";
    scenario.on(
        "db",
        &format!("mkdir -p /etc/pgbackrest/conf.d; printf '[global]\\nio-timeout=5\\n' > {impatient}"),
    )?;
    scenario.on("vault", "systemctl stop tercet-pgbackrest.service")?;
    let result = archiving_fails(scenario, &["has not been archived", "refused"]);
    scenario.on("vault", "systemctl start tercet-pgbackrest.service")?;
    scenario.on("db", &format!("rm {impatient}"))?;
    result?;
    archiving_recovers(scenario)
}

/// The repository's file system is full.
fn repository_full(scenario: &Scenario<'_>) -> Result<()> {
    scenario.on(
        "vault",
        &format!(
            "set -e; systemctl stop tercet-pgbackrest.service; cp -a {REPOSITORY} /var/lib/tercet-backup/aside; \
             size=$(du -sm {REPOSITORY} | cut -f1); mount -t tmpfs -o size=$((size + 4))m tmpfs {REPOSITORY}; \
             cp -aT /var/lib/tercet-backup/aside {REPOSITORY}; dd if=/dev/zero of={REPOSITORY}/filler bs=1M 2>/dev/null || true; \
             systemctl start tercet-pgbackrest.service"
        ),
    )?;
    let result = archiving_fails(scenario, &["has not been archived", "No space left on device"]);
    let backup = scenario.fail("backup", &[]);
    scenario.on(
        "vault",
        &format!(
            "set -e; systemctl stop tercet-pgbackrest.service; umount {REPOSITORY}; rm -r /var/lib/tercet-backup/aside; \
             systemctl start tercet-pgbackrest.service"
        ),
    )?;
    result?;
    named(&backup?, &["No space left on device"])?;
    archiving_recovers(scenario)
}

/// A page of a table is overwritten on the disk of the running database, and the file's time stays.
fn heap_page(scenario: &Scenario<'_>) -> Result<()> {
    scenario.sql("create table worn as select i, repeat('x', 200) from generate_series(1, 1000) i")?;
    // Nothing is left to be written to it, which would mend it.
    scenario.sql("vacuum (freeze, analyze) worn")?;
    scenario.sql("checkpoint")?;
    scenario.succeed("backup", &[])?;
    let path = scenario.sql("select pg_relation_filepath('worn')")?;
    scenario.on(
        "db",
        &format!(
            "cd /var/lib/postgresql/15/main && cp -p {path} /run/time && head -c 64 /dev/urandom | \
             dd of={path} bs=1 seek=12000 conv=notrunc status=none && touch -r /run/time {path}"
        ),
    )?;
    let printed = scenario.fail("backup", &[])?;
    named(&printed, &[&path])?;
    scenario.check_fails(&[&path])?;
    scenario.sql("drop table worn")?;
    scenario.succeed("backup", &["--full"])?;
    scenario.check_passes()
}

/// A copy of the database's machine runs with its certificate and its stanza, and archives its own segments first.
fn clone(scenario: &Scenario<'_>) -> Result<()> {
    scenario.on(
        "db",
        "set -e; systemctl stop postgresql@15-main; cp -a /var/lib/postgresql/15/main /var/lib/postgresql/15/clone; \
         systemctl start postgresql@15-main",
    )?;
    archived(scenario)?;
    scenario.on("vault", "touch /run/cloned")?;
    scenario.on(
        "db",
        "set -e; cd /; systemd-run --quiet --unit=clone -p User=postgres -p BindPaths=/var/lib/postgresql/15/clone:/var/lib/postgresql/15/main \
         -p RuntimeDirectory=clone /usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/15/main \
         -c config_file=/etc/postgresql/15/main/postgresql.conf -c external_pid_file= -c listen_addresses= -c unix_socket_directories=/run/clone; \
         until runuser -u postgres -- psql -qh /run/clone -c 'select 1' >/dev/null 2>&1; do sleep .1; done; \
         runuser -u postgres -- psql -qh /run/clone -d shop -c 'insert into filler values (3); select pg_switch_wal()' >/dev/null; \
         until test \"$(runuser -u postgres -- psql -XAtqh /run/clone -c 'select archived_count > 0 from pg_stat_archiver')\" = t; do sleep .1; done",
    )?;
    let result = archiving_fails(scenario, &["has not been archived", "already exists"]);
    scenario.on("db", "systemctl stop clone; rm -r /var/lib/postgresql/15/clone")?;
    result?;
    // The segments of the clone have to go, so that the original's can come.
    scenario.on(
        "vault",
        &format!("find {REPOSITORY}/archive/shop -type f -name '*.zst' -newer /run/cloned -delete"),
    )?;
    archiving_recovers(scenario)?;
    scenario.check_passes()
}

/// Without the operator's state nothing can be changed, and that is said; the backups on the machine are readable.
fn operator_state(scenario: &Scenario<'_>) -> Result<()> {
    let folder = without_state(scenario)?;
    let backup =
        scenario.tercet("backup", &[])?.arg(folder.path()).stdin(std::process::Stdio::null()).output()?;
    let printed = String::from_utf8_lossy(&backup.stderr).into_owned();
    ensure!(!backup.status.success(), "a backup without the operator's state: {printed}");
    named(&printed.split_whitespace().collect::<Vec<_>>().join(" "), &["state"])?;
    scenario.on("vault", "systemctl start tercet-backup-check@latest.service")?;
    ensure!(backups(scenario)?.last().is_some_and(|it| it.passed == Some(true)), "its check failed");
    Ok(())
}
