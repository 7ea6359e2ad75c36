//! Backups, restores and moves of the database as operations of a plan.

use expect_test::expect;
use jiff::Timestamp;
use tercet_database::RecoveryTarget;
use tercet_machine::cluster::ClusterFacts;

use super::{Fleet, cluster, data, intent, release};
use crate::backup::record::{Backup, Kind, Record};
use crate::backup::replace::{Phase, Replaced, Replacement};
use crate::desired::tests::BACKED_UP;
use crate::intent::{Consent, Intent, Restore};

#[test]
fn the_repository_comes_before_the_first_migration_and_the_first_backup_last() {
    let mut fleet = Fleet::bare(BACKED_UP);
    fleet.check(
        &intent(release('b', '1')),
        expect![[r#"
            lb: record that it belongs to project shop
            app1: record that it belongs to project shop
            db: record that it belongs to project shop
            vault: record that it belongs to project shop
            vault: initialise the repository of the backups
            app1: ship release bbbbbbbbbbbb
            db: migrate the database: 0001_event.sql
            app1: start app-1 of release bbbbbbbbbbbb on port 8081
            app1: wait until app-1 is ready: http://10.0.0.11:9081/ready
            lb: wait until the balancer finds app-1 healthy
            lb: record that the project's data is in database shop on db
            app1: record that the project's data is in database shop on db
            db: record that the project's data is in database shop on db
            vault: record that the project's data is in database shop on db
            db: start the heartbeat
            db: wait for the heartbeat
            vault: start a full backup
            vault: wait for a full backup
            vault: start the check of the latest backup
            vault: wait for the check of the latest backup
        "#]],
    );
    fleet.survey.machines[2].system.distribution.1 = "13".to_owned();
    fleet.check(&intent(release('b', '1')), expect![[r#"
        db runs debian 13 and vault runs debian 12: PostgreSQL and pgBackRest must have the same version on both
        hint: use the same distribution on both, or an object store: `to` in [backup]
    "#]]);
}

/// A fleet whose file now has the database on `db2`.
fn moving() -> Fleet {
    let text = BACKED_UP.replace(
        "\"db\", ssh = \"db\", address = \"10.0.0.20\"",
        "\"db2\", ssh = \"db2\", address = \"10.0.0.21\"",
    );
    let mut fleet = Fleet::bare(&text);
    fleet.secrets.data = Some(data());
    let backup = Backup {
        id: "20261129-030000F".to_owned(),
        kind: Kind::Full,
        prior: None,
        started: Timestamp::UNIX_EPOCH,
        finished: Timestamp::UNIX_EPOCH,
        size: 1 << 20,
        stored: 1 << 20,
        cluster: "7".to_owned(),
        is_damaged: false,
        damage: Vec::new(),
    };
    let record = Record { cluster: Some("7".to_owned()), backups: vec![backup], ..Record::default() };
    fleet.report("vault").backups = Some(record);
    fleet
}

/// What `tercet move database` wants.
fn move_database() -> Intent {
    let Intent::Apply { releases, migrate, .. } = intent(release('b', '1')) else { unreachable!() };
    let consent = Consent { move_database: true, ..Consent::default() };
    Intent::Apply { releases, migrate, consent }
}

#[test]
fn a_database_moves_by_its_backups_and_only_when_it_is_asked_to() {
    let mut fleet = moving();
    fleet.check(&intent(release('b', '1')), expect![[r#"
        db2: PostgreSQL is not installed on it: it would start empty
        the project's data is in database shop of PostgreSQL cluster 7 on db, since 2026-11-29T12:00:00Z
        hint: put `name` and the database's machine in tercet.toml back to what they were, or move the data there (`tercet move database --to db2`); `tercet apply --new-database` starts with an empty one and leaves the old as it is
    "#]]);
    let moved = |fleet: &Fleet| match fleet.plan(&move_database()) {
        Ok(plan) => plan
            .operations()
            .filter(|it| ["db", "db2", "vault"].contains(&it.machine.as_str()))
            .map(|it| format!("{it}\n"))
            .chain(plan.notes.iter().cloned())
            .collect::<String>(),
        Err(error) => format!("{error:#}\n"),
    };
    expect![[r#"
        db2: record that it belongs to project shop
        vault: record that it belongs to project shop
        db2: converge, 1 step
        vault: converge, 2 steps
        db2: converge, 56 steps
        vault: converge, 51 steps
        db2: restore a copy beside the database and verify it: the end of the archive
        db2: stop PostgreSQL, replace the database by the copy, and start it; the old data stays
        db2: record that the replacement is complete
        vault: wait until the write-ahead log arrives in the repository
        db2: migrate the database: 0001_event.sql
        db2: record that the project's data is in database shop on db2
        vault: record that the project's data is in database shop on db2
        vault: start the check of the latest backup
        vault: wait for the check of the latest backup
        db cannot be reached: what it committed and did not archive is not moved; switch it off, so that it does not come backthe data on the old machine stays there; the empty cluster of db2 stays until `tercet restore --drop`"#]].assert_eq(&moved(&fleet));
    fleet.report("vault").backups = None;
    expect![[r#"
        there is no backup to restore
        hint: tercet backup makes one
    "#]]
    .assert_eq(&moved(&fleet));
    fleet = moving();
    fleet.survey.machines[2].facts.cluster = Some(ClusterFacts {
        databases: serde_json::from_value(serde_json::json!({ "wiki": { "owner": "wiki", "connect": [] } }))
            .expect("facts"),
        ..ClusterFacts::default()
    });
    expect![[r#"
        db2: its PostgreSQL has databases of its own: wiki
        hint: choose another machine
    "#]]
    .assert_eq(&moved(&fleet));
}

/// Killed after the new machine had the data, or between its renames: what has been written there since stays.
#[test]
fn an_interrupted_move_goes_on_without_restoring_again() {
    let restores = |fleet: &Fleet| {
        let plan = fleet.plan(&move_database()).expect("a plan");
        let on = plan.operations().filter(|it| it.machine == "db2").map(|it| format!("{it}\n"));
        on.filter(|it| it.contains("copy") || it.contains("converge")).collect::<String>()
    };
    let mut fleet = moving();
    fleet.survey.machines[2].facts.cluster = Some(cluster("7"));
    expect![[r#"
        db2: converge, 1 step
        db2: converge, 57 steps
    "#]]
    .assert_eq(&restores(&fleet));
    fleet.survey.machines[2].facts.cluster = None;
    fleet.report("db2").replacement = Some(Replacement {
        target: Replaced::By(RecoveryTarget::Latest),
        phase: Phase::Replacing,
        before: "main.before-1".to_owned(),
        since: Timestamp::UNIX_EPOCH,
    });
    expect![[r#"
        db2: converge, 1 step
        db2: stop PostgreSQL, replace the database by the copy, and start it; the old data stays
        db2: converge, 56 steps
    "#]]
    .assert_eq(&restores(&fleet));
    fleet.check(
        &intent(release('b', '1')),
        expect![[r#"
            db2: a replacement of its database, begun at 1970-01-01T00:00:00Z, is half done
            hint: run the same `tercet restore` or `tercet move` again, which completes it
        "#]],
    );
}

#[test]
fn a_restore_is_verified_before_it_replaces_the_database_and_can_be_undone() {
    let mut fleet = Fleet::bare(BACKED_UP);
    fleet.report("vault").backups = moving().report("vault").backups.clone();
    let restore = |fleet: &Fleet, restore| match fleet.plan(&Intent::Restore(restore)) {
        Ok(plan) => plan.to_string(),
        Err(error) => format!("{error:#}\n"),
    };
    let time = |seconds| RecoveryTarget::Time(Timestamp::from_second(seconds).expect("a time"));
    expect![[r#"
          1. db: archive the write-ahead log up to now
          2. vault: restore a copy of the database: 1970-01-01T01:00:00Z
        note: from backup 20261129-030000F of 1970-01-01T00:00:00Z, which was not checked: 1 MiB, and the write-ahead log up to 1970-01-01T01:00:00Z
    "#]].assert_eq(&restore(&fleet, Restore::Beside(time(3600))));
    expect![[r#"
          1. db: archive the write-ahead log up to now
          2. db: restore a copy beside the database and verify it: 1970-01-01T01:00:00Z
          3. db: stop PostgreSQL, replace the database by the copy, and start it; the old data stays
          4. db: set the roles and passwords in the database
          5. vault: start a full backup
          6. db: record that the replacement is complete
        note: from backup 20261129-030000F of 1970-01-01T00:00:00Z, which was not checked: 1 MiB, and the write-ahead log up to 1970-01-01T01:00:00Z
        note: what was committed after 1970-01-01T01:00:00Z is lost from the database, and kept in the data before it
    "#]].assert_eq(&restore(&fleet, Restore::Replace(time(3600))));
    expect![[r#"
        the database cannot be restored to 1969-12-31T23:59:59Z: the oldest backup ended at 1970-01-01T00:00:00Z
        hint: name a time from then on
    "#]].assert_eq(&restore(&fleet, Restore::Beside(time(-1))));
    expect![[r#"
        db: nothing was replaced, so there is nothing to return to
    "#]]
    .assert_eq(&restore(&fleet, Restore::Undo));
    let since = Timestamp::from_second(7200).expect("a time");
    let before = "main.before-19700101-020000".to_owned();
    fleet.report("db").replaced = vec![format!("/var/lib/postgresql/15/{before}").into()];
    fleet.report("db").replacement =
        Some(Replacement { target: Replaced::By(time(3600)), phase: Phase::Done, before, since });
    expect![[r#"
          1. db: recover the data before the last replacement, beside the database
          2. db: stop PostgreSQL, replace the database by the copy, and start it; the old data stays
          3. db: set the roles and passwords in the database
          4. vault: start a full backup
          5. db: record that the replacement is complete
        note: what was committed since 1970-01-01T02:00:00Z is lost from the database, and kept in the data before it
    "#]].assert_eq(&restore(&fleet, Restore::Undo));
    // The same restore, interrupted after it replaced the database, replaces no second time what an undo would return to.
    fleet.report("db").replacement.as_mut().expect("it is there").phase = Phase::Replaced;
    expect![[r#"
          1. db: set the roles and passwords in the database
          2. vault: start a full backup
          3. db: record that the replacement is complete
        note: the database was replaced at 1970-01-01T02:00:00Z, and is not replaced again: the operations that follow are completed
    "#]].assert_eq(&restore(&fleet, Restore::Replace(time(3600))));
    assert!(restore(&fleet, Restore::Replace(time(3500))).starts_with("  1. db: archive"));
    assert!(restore(&fleet, Restore::Undo).starts_with("  1. db: recover"));
    // An interrupted undo is repeated, although the data has left its place.
    fleet.report("db").replacement.as_mut().expect("it is there").phase = Phase::Returning;
    let moved = vec!["/var/lib/postgresql/15/tercet-restored/data".into()];
    let left = std::mem::replace(&mut fleet.report("db").replaced, moved);
    assert!(
        restore(&fleet, Restore::Undo).starts_with("  1. db: recover the data before the last replacement")
    );
    fleet.report("db").replaced = left;
    expect![[r#"
          1. db: remove the data that replacements left
        note: db: /var/lib/postgresql/15/main.before-19700101-020000 is removed: `tercet restore --undo` is not possible then
    "#]].assert_eq(&restore(&fleet, Restore::Drop));
}
