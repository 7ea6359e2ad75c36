//! What backups become on the two machines that have a part in them.

use expect_test::expect;
use tercet_machine::Desired;
use tercet_machine::file::Contents;

use super::{BACKED_UP, FOUR, check, desired, openings};

#[test]
fn backups_go_over_two_edges_to_a_machine_of_their_own() {
    expect![[r#"
        ip saddr 192.0.2.7 tcp dport 22 accept comment "ssh of the operator"
        ip saddr 10.0.0.11 ip daddr 10.0.0.20 tcp dport 5432 accept comment "app1 to database"
        ip saddr 10.0.0.30 ip daddr 10.0.0.20 tcp dport 8432 accept comment "vault to database"
    "#]]
    .assert_eq(&openings(&desired(BACKED_UP, "db")));
    expect![[r#"
        ip saddr 192.0.2.7 tcp dport 22 accept comment "ssh of the operator"
        ip saddr 10.0.0.20 ip daddr 10.0.0.30 tcp dport 8432 accept comment "db to backup"
    "#]]
    .assert_eq(&openings(&desired(BACKED_UP, "vault")));
    let (db, vault) = (desired(BACKED_UP, "db"), desired(BACKED_UP, "vault"));
    check(
        &db,
        "pgbackrest.conf",
        expect![[r#"
        # Written by tercet; changes are undone by the next apply.
        [global]
        log-level-file=off
        lock-path=/var/lib/tercet-backup/lock
        start-fast=y
        process-max=2
        compress-type=zst
        expire-auto=n
        tls-server-address=10.0.0.20
        tls-server-port=8432
        tls-server-ca-file=/etc/tercet/backup/authority.crt
        tls-server-cert-file=/etc/tercet/backup/machine.crt
        tls-server-key-file=/etc/tercet/backup/machine.key
        tls-server-auth=vault=shop
        repo1-host=10.0.0.30
        repo1-host-type=tls
        repo1-host-port=8432
        repo1-host-ca-file=/etc/tercet/backup/authority.crt
        repo1-host-cert-file=/etc/tercet/backup/machine.crt
        repo1-host-key-file=/etc/tercet/backup/machine.key
        archive-push-queue-max=10737418240

        [shop]
        pg1-path=/var/lib/postgresql/15/main
        pg1-port=5432
    "#]],
    );
    check(
        &vault,
        "pgbackrest.conf",
        expect![[r#"
        # Written by tercet; changes are undone by the next apply.
        [global]
        log-level-file=off
        lock-path=/var/lib/tercet-backup/lock
        start-fast=y
        process-max=2
        compress-type=zst
        expire-auto=n
        tls-server-address=10.0.0.30
        tls-server-port=8432
        tls-server-ca-file=/etc/tercet/backup/authority.crt
        tls-server-cert-file=/etc/tercet/backup/machine.crt
        tls-server-key-file=/etc/tercet/backup/machine.key
        tls-server-auth=db=shop
        repo1-path=/var/lib/tercet-backup/repository
        repo1-bundle=y

        [shop]
        pg1-path=/var/lib/postgresql/15/main
        pg1-port=5432
        pg1-host=10.0.0.20
        pg1-host-type=tls
        pg1-host-port=8432
        pg1-host-ca-file=/etc/tercet/backup/authority.crt
        pg1-host-cert-file=/etc/tercet/backup/machine.crt
        pg1-host-key-file=/etc/tercet/backup/machine.key
    "#]],
    );
    check(
        &db,
        "tercet-archive.conf",
        expect![[r#"
        archive_command = '/usr/bin/pgbackrest --stanza=shop archive-push %p'
    "#]],
    );
    check(
        &desired(FOUR, "db"),
        "tercet-archive.conf",
        expect![[r#"
        archive_command = '/bin/true'
    "#]],
    );
    check(
        &vault,
        "backup.json",
        expect![[r#"
            {
              "database": "shop",
              "major": 15,
              "port": 5432,
              "makes_backups": true,
              "keep_days": 28,
              "queue_limit": 10737418240
            }
        "#]],
    );
    check(
        &vault,
        "tercet-backup-check@.service",
        expect![[r#"
            [Unit]
            Description=tercet: check-backup %i
            Wants=network-online.target
            After=network-online.target

            [Service]
            Type=oneshot
            ExecStart=/usr/local/lib/tercet/1/tercet machine check-backup %i
            User=postgres
            TimeoutStartSec=infinity
            ProtectSystem=strict
            ProtectHome=yes
            PrivateTmp=yes
            PrivateDevices=yes
            ProtectKernelTunables=yes
            ProtectKernelModules=yes
            ProtectKernelLogs=yes
            ProtectControlGroups=yes
            ProtectClock=yes
            ProtectHostname=yes
            NoNewPrivileges=yes
            RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
            RestrictNamespaces=yes
            RestrictRealtime=yes
            RestrictSUIDSGID=yes
            LockPersonality=yes
            SystemCallArchitectures=native
            SystemCallFilter=@system-service
            CapabilityBoundingSet=
            ReadWritePaths=/var/lib/tercet-backup /var/lib/tercet/metrics
            CPUWeight=20
            IOWeight=20
        "#]],
    );
    check(
        &vault,
        "tercet-backup-check.timer",
        expect![[r#"
        [Unit]
        Description=tercet: when tercet-backup-check@latest.service starts

        [Timer]
        OnCalendar=*-*-* 05:00
        RandomizedDelaySec=10m
        Persistent=yes
        Unit=tercet-backup-check@latest.service

        [Install]
        WantedBy=timers.target
    "#]],
    );
    check(
        &db,
        "tercet-heartbeat.timer",
        expect![[r#"
        [Unit]
        Description=tercet: when tercet-heartbeat.service starts

        [Timer]
        OnBootSec=10s
        OnUnitActiveSec=30s
        AccuracySec=1s
        Unit=tercet-heartbeat.service

        [Install]
        WantedBy=timers.target
    "#]],
    );
    let units = |desired: &Desired| {
        let units =
            desired.units.iter().filter(|unit| unit.name.contains("back") || unit.name.contains("beat"));
        units.map(|unit| format!("{}\n", unit.name)).collect::<String>()
    };
    expect![[r#"
        tercet-pgbackrest.service
        tercet-heartbeat.timer
    "#]]
    .assert_eq(&units(&db));
    expect![[r#"
        tercet-pgbackrest.service
        tercet-backup-full.timer
        tercet-backup-incremental.timer
        tercet-backup-check.timer
    "#]]
    .assert_eq(&units(&vault));
    assert!(units(&desired(BACKED_UP, "app1")).is_empty());
}

#[test]
fn the_keys_of_an_object_store_are_in_a_secret_file_of_the_databases_machine() {
    let text = format!(
        "{FOUR}backup = {{ to = \"s3://bucket/shop?endpoint=s3.example.com&region=eu\", key = \"@key\", secret = \"@secret\" }}"
    );
    let db = desired(&text, "db");
    check(
        &db,
        "pgbackrest.conf",
        expect![[r#"
        # Written by tercet; changes are undone by the next apply.
        [global]
        log-level-file=off
        lock-path=/var/lib/tercet-backup/lock
        start-fast=y
        process-max=2
        compress-type=zst
        expire-auto=n
        repo1-type=s3
        repo1-path=/shop
        repo1-s3-bucket=bucket
        repo1-s3-endpoint=s3.example.com
        repo1-storage-port=443
        repo1-s3-region=eu
        repo1-s3-uri-style=path
        repo1-cipher-type=aes-256-cbc
        repo1-bundle=y
        archive-push-queue-max=10737418240

        [shop]
        pg1-path=/var/lib/postgresql/15/main
        pg1-port=5432
    "#]],
    );
    let secrets = db.files.iter().find(|file| file.path.ends_with("tercet-secrets.conf")).expect("the keys");
    assert!(
        matches!(&secrets.contents, Contents::Secret(text) if text.reveal().contains("repo1-cipher-pass=hush cipher"))
    );
    assert_eq!(secrets.mode, 0o600);
    assert!(db.units.iter().all(|unit| unit.name != "tercet-pgbackrest.service"));
    assert!(!openings(&db).contains("8432"));
}
