//! Restored clusters: recovery to a time and to the end, what stops it, and what a verification finds.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use tercet_database::restored::{Check, Expectation, Outcome, RecoveryError, Verification};
use tercet_database::wal::Segment;
use tercet_database::{Account, Catalogue, Recovery, RecoveryTarget, RestoredCluster, heartbeat};
use tercet_postgres::Connection;

use crate::server::{self, NAME, Server, connect, value};

/// A server with a WAL archive, and a backup of it.
struct Source {
    server: Server,
    superuser: Connection,
    archive: PathBuf,
}

impl Source {
    /// A server with a table and an index.
    async fn start() -> Self {
        let folder = server::folder();
        let archive = folder.path().join("archive");
        std::fs::create_dir(&archive).unwrap();
        let account = Account::for_postgresql().unwrap();
        give(&archive, &account);
        let command = format!("cp %p {}/%f", archive.display());
        let server = Server::start_in(folder, server::installation(), &command).await;
        let superuser = connect(server.cluster.superuser(NAME)).await;
        superuser
            .simple_query(
                "create table kept (id int primary key, at timestamptz default clock_timestamp());
                 insert into kept select generate_series(1, 1000);",
            )
            .await
            .unwrap();
        Self { server, superuser, archive }
    }

    /// Restores a backup, made now, into a new folder.
    async fn backup(&self) -> RestoredCluster {
        let folder = self
            .server
            .folder()
            .join(format!("restored-{}", std::fs::read_dir(self.server.folder()).unwrap().count()));
        let account = Account::for_postgresql().unwrap();
        let restored = RestoredCluster::open(&folder, account.clone(), server::installation(), Vec::new())
            .await
            .unwrap();
        restored.clear().unwrap();
        let status = Command::new(server::installation().program("pg_basebackup"))
            .args(["-X", "none", "-c", "fast", "-U", "postgres", "-D"])
            .arg(restored.data())
            .arg("-h")
            .arg(self.server.cluster.socket_folder())
            .args(["-p", &self.server.cluster.port().to_string()])
            .output()
            .unwrap();
        assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
        give(&restored.data(), &account);
        restored
    }

    /// Inserts a row in a transaction; returns a time between it and the next one.
    async fn insert(&self, id: i32) -> Timestamp {
        self.superuser.simple_query(&format!("insert into kept values ({id})")).await.unwrap();
        let now = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
        let time = Timestamp::from_microsecond(value(&self.superuser, now).await.parse().unwrap()).unwrap();
        self.superuser.simple_query("create table if not exists later ()").await.unwrap();
        time
    }

    /// Completes the segment, and waits until it is archived; returns its name.
    async fn archived(&self) -> String {
        let name = value(&self.superuser, "select pg_walfile_name(pg_switch_wal())").await;
        let path = self.archive.join(&name);
        while !std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() == 16 << 20) {
            value(&self.superuser, "select pg_sleep(0.01)").await;
        }
        name
    }

    fn recovery(&self, target: RecoveryTarget) -> Recovery {
        let names = std::fs::read_dir(&self.archive).unwrap().map(|entry| entry.unwrap().file_name());
        let segments: Vec<Segment> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
        Recovery {
            restore_command: format!("cp {}/%f %p", self.archive.display()),
            target,
            timeline: None,
            segments,
        }
    }
}

/// Gives a folder and its files to PostgreSQL's account.
fn give(folder: &Path, account: &Account) {
    if account.is_another() {
        let owner = format!("{}:{}", account.uid, account.gid);
        assert!(Command::new("chown").args(["-R", &owner]).arg(folder).status().unwrap().success());
    }
}

fn expectation<'a>(catalogue: Option<&'a Catalogue>, checks: &'a Path) -> Expectation<'a> {
    let heartbeat = catalogue.map(|catalogue| (catalogue.at, Duration::from_secs(60)));
    Expectation { database: NAME, heartbeat, catalogue, checks }
}

fn finding(verification: &Verification, check: Check) -> (Outcome, &str) {
    let mut findings = verification.findings.iter().filter(|finding| finding.check == check);
    findings.next().map(|finding| (finding.outcome, finding.detail.as_str())).unwrap()
}

#[tokio::test(flavor = "local")]
async fn a_sound_backup_passes_and_is_recovered_to_a_time_between_two_commits() {
    let source = Source::start().await;
    let restored = source.backup().await;
    let between = source.insert(5000).await;
    source.insert(5001).await;
    // It must not make the schema, whose absence says that no privilege has been granted yet.
    assert!(!heartbeat::beat(&source.server.cluster.superuser("postgres").into()).await.unwrap());
    assert!(heartbeat::beat(&source.server.cluster.superuser(NAME).into()).await.unwrap());
    heartbeat::beat(&source.server.cluster.superuser(NAME).into()).await.unwrap();
    let catalogue = Catalogue::read(&source.server.cluster.superuser(NAME).into()).await.unwrap();
    source.archived().await;

    // An operator's settings must not keep the copy from starting, and stay in it.
    let settings = restored.data().join("postgresql.auto.conf");
    std::fs::write(&settings, "listen_addresses = '203.0.113.1'\nrecovery_target_time = 'x'\n").unwrap();
    let server = restored.start(Some(&source.recovery(RecoveryTarget::Time(between))), "").await.unwrap();
    let connection = connect(server.superuser(NAME)).await;
    assert_eq!(value(&connection, "select max(id) from kept").await, "5000");
    assert!(server.last_commit().unwrap() < between);
    connection.simple_query("create table writable ()").await.unwrap();
    drop(connection);
    server.stop().await;
    assert_eq!(std::fs::read_to_string(&settings).unwrap(), "listen_addresses = '203.0.113.1'\n");

    let checks = source.server.folder().join("checks");
    std::fs::create_dir(&checks).unwrap();
    std::fs::write(checks.join("rows.sql"), "select count(*) > 1000 from kept;\n").unwrap();
    std::fs::write(checks.join("false.sql"), "select count(*) = 0 from kept").unwrap();
    std::fs::write(checks.join("wrong.sql"), "select oops").unwrap();
    let restored = source.backup().await;
    source.insert(5002).await;
    source.archived().await;
    let server = restored.start(Some(&source.recovery(RecoveryTarget::Latest)), "").await.unwrap();
    let verification = server.verify(&expectation(Some(&catalogue), &checks)).await;
    let failures: Vec<_> = verification.failures().collect();
    assert_eq!(failures, ["false.sql: its result is f", "wrong.sql: column \"oops\" does not exist"]);
    assert_eq!(finding(&verification, Check::Relations), (Outcome::Passed, "no corruption"));
    assert_eq!(finding(&verification, Check::Checksums).0, Outcome::Passed);
    assert_eq!(finding(&verification, Check::Schema).0, Outcome::Passed);
    assert_eq!(finding(&verification, Check::Catalogue).0, Outcome::Passed);
    assert!(verification.heartbeat_seconds.unwrap() < 60.0);
    let line = serde_json::to_string(&verification).unwrap();
    assert_eq!(serde_json::from_str::<Verification>(&line).unwrap(), verification);

    // What the live one has and the copy does not: a role, and a heartbeat.
    source.superuser.simple_query("create role late; drop table tercet.heartbeat").await.unwrap();
    let catalogue = Catalogue::read(&source.server.cluster.superuser(NAME).into()).await.unwrap();
    let server = restored.start(None, "").await.unwrap();
    let copy = connect(server.superuser(NAME)).await;
    assert_eq!(value(&copy, "select count(*) from pg_extension where extname = 'amcheck'").await, "0");
    copy.simple_query("drop table tercet.heartbeat").await.unwrap();
    drop(copy);
    let verification = server.verify(&expectation(Some(&catalogue), Path::new("/nowhere"))).await;
    let failures: Vec<_> = verification.failures().collect();
    assert_eq!(failures, ["the restored copy has no heartbeat", "role late is missing"]);
    restored.remove().unwrap();
}

#[tokio::test(flavor = "local")]
async fn a_damaged_page_is_named_with_its_relation_and_block() {
    let source = Source::start().await;
    let path = value(&source.superuser, "select pg_relation_filepath('kept')").await;
    let restored = source.backup().await;
    source.archived().await;
    let mut file = std::fs::File::options().write(true).open(restored.data().join(&path)).unwrap();
    file.seek(SeekFrom::Start(8192 + 4000)).unwrap();
    file.write_all(b"damage").unwrap();
    drop(file);
    let server = restored.start(Some(&source.recovery(RecoveryTarget::Latest)), "").await.unwrap();
    let verification = server.verify(&expectation(None, Path::new("/nowhere"))).await;
    let (outcome, cause) = finding(&verification, Check::Relations);
    assert!(
        outcome == Outcome::Failed && cause.contains("public.kept") && cause.contains("block 1"),
        "{cause}"
    );
    let (outcome, cause) = finding(&verification, Check::Checksums);
    assert!(outcome == Outcome::Failed && cause.contains(&path) && cause.contains("block 1"), "{cause}");
    assert!(!verification.passed());
}

#[tokio::test(flavor = "local")]
async fn a_backup_from_before_a_restore_to_an_earlier_time_is_of_another_history() {
    let source = Source::start().await;
    let branch = value(&source.superuser, "select pg_current_wal_lsn()").await;
    source.archived().await;
    let restored = source.backup().await;
    source.archived().await;
    // What the restore leaves in the archive: timeline 2 branches off timeline 1 before the backup.
    std::fs::write(source.archive.join("00000002.history"), format!("1\t{branch}\tbefore\n")).unwrap();
    let error = restored.start(Some(&source.recovery(RecoveryTarget::Latest)), "").await.unwrap_err();
    assert!(matches!(error, RecoveryError::OtherHistory { .. }), "{error}");
}

#[tokio::test(flavor = "local")]
async fn a_gap_in_the_archive_and_its_end_are_named_with_the_time_they_let_one_reach() {
    let source = Source::start().await;
    let before = Timestamp::now();
    let restored = source.backup().await;
    source.insert(1001).await;
    source.archived().await;
    let missing = {
        source.insert(1002).await;
        source.archived().await
    };
    let target = source.insert(1003).await;
    source.insert(1004).await;
    let last = source.archived().await;

    let recover = |target| {
        let recovery = source.recovery(target);
        let restored = &restored;
        async move { restored.start(Some(&recovery), "").await }
    };
    let error = recover(RecoveryTarget::Time(before)).await.unwrap_err();
    assert!(matches!(error, RecoveryError::BeforeBackup(_)), "{error}");

    let aside = source.server.folder().join("aside");
    std::fs::rename(source.archive.join(&missing), &aside).unwrap();
    let error = recover(RecoveryTarget::Time(target)).await.unwrap_err();
    let RecoveryError::Gap { gap, .. } = &error else { panic!("{error}") };
    assert_eq!((gap.at.to_string(), gap.last.to_string(), gap.damaged), (missing.clone(), last, false));
    assert!(
        error.to_string().contains(&format!("WAL segment {missing} is missing from the archive")),
        "{error}"
    );
    let reached = gap.reached.unwrap();

    std::fs::rename(&aside, source.archive.join(&missing)).unwrap();
    let error = recover(RecoveryTarget::Time(Timestamp::now())).await.unwrap_err();
    let RecoveryError::BeforeTarget { archive_end: Some(end), .. } = error else { panic!("{error}") };
    assert!(end > target && end > reached, "{end}");
    assert!(error.to_string().contains(&format!("the archive ends at {end}")), "{error}");

    restored.clear().unwrap();
    assert!(matches!(recover(RecoveryTarget::Latest).await.unwrap_err(), RecoveryError::NoCluster(_)));
    std::fs::write(restored.data().join("PG_VERSION"), "99\n").unwrap();
    assert!(matches!(
        recover(RecoveryTarget::Latest).await.unwrap_err(),
        RecoveryError::Major { major: 99, .. }
    ));
}

#[tokio::test(flavor = "local")]
async fn a_recovery_to_the_end_reports_a_gap_and_a_damaged_segment() {
    let source = Source::start().await;
    let (first, second) = (source.backup().await, source.backup().await);
    let third = source.backup().await;
    source.insert(1001).await;
    let damaged = source.archived().await;
    source.insert(1002).await;
    let last = source.archived().await;

    // A restore command that checks the files, as pgBackRest's does.
    let recovery = source.recovery(RecoveryTarget::Latest);
    let restore_command = format!("test %f != {damaged} && {}", recovery.restore_command);
    let server = third.start(Some(&Recovery { restore_command, ..recovery }), "").await.unwrap();
    let gap = server.gap().unwrap().to_string();
    assert!(gap.starts_with(&format!("WAL segment {damaged} in the archive is damaged")), "{gap}");
    server.stop().await;

    let mut file = std::fs::File::options().write(true).open(source.archive.join(&damaged)).unwrap();
    let zeros = vec![0; 16 << 20];
    file.write_all(&zeros).unwrap();
    let server = first.start(Some(&source.recovery(RecoveryTarget::Latest)), "").await.unwrap();
    let gap = server.gap().unwrap().to_string();
    assert!(gap.starts_with(&format!("WAL segment {damaged} in the archive is damaged")), "{gap}");
    assert!(gap.contains(&format!("goes on to {last}")), "{gap}");
    let verification = server.verify(&expectation(None, Path::new("/nowhere"))).await;
    assert_eq!(finding(&verification, Check::Recovery), (Outcome::Failed, gap.as_str()));

    std::fs::remove_file(source.archive.join(&damaged)).unwrap();
    let server = second.start(Some(&source.recovery(RecoveryTarget::Latest)), "").await.unwrap();
    let gap = server.gap().unwrap().to_string();
    assert!(gap.starts_with(&format!("WAL segment {damaged} is missing")), "{gap}");
    server.stop().await;
}
