//! Alerts about PostgreSQL and its backups.

use super::{Cause, Needs, Rule, Severity, minutes, seconds};

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "database-down",
        expression: "pg_up == 0",
        hold: seconds(15),
        severity: Severity::Critical,
        summary: "PostgreSQL on {{ $labels.machine }} does not answer",
        meaning: "PostgreSQL does not accept the exporter's connection. Requests that need the database get 503. Alerts that follow from it are held back.",
        action: "`tercet status`, then `tercet logs --tier database`: PostgreSQL says why it stopped. A full disk is the most frequent reason (alert \
                 disk-full-soon). `tercet apply` starts it; [restore](machine-backups.md) if its data is damaged.",
        needs: Needs::Database,
        follows: &[],
    },
    Rule {
        name: "slot-retaining",
        expression: "tercet_replication_slot_retained_bytes > 8 * 1024 * 1024 * 1024",
        hold: minutes(5),
        severity: Severity::Warning,
        summary: "replication slot {{ $labels.slot_name }} keeps {{ $value | humanize1024 }}B of write-ahead log",
        meaning: "A replication slot keeps more than 8 GiB of write-ahead log, since its consumer does not read. It grows until the disk is full.",
        action: "Start the consumer again, or drop the slot if it has none: `select pg_drop_replication_slot('NAME')`.",
        needs: Needs::Database,
        follows: &[],
    },
    Rule {
        name: "transaction-id-age",
        expression: "tercet_postgresql_transaction_id_age > 500000000",
        hold: minutes(5),
        severity: Severity::Warning,
        summary: "the oldest transaction id on {{ $labels.machine }} is {{ $value | humanize }} transactions old",
        meaning: "Autovacuum does not freeze old rows: the oldest transaction id is more than 500 million transactions old. At 2 billion PostgreSQL accepts no more writes.",
        action: "Find what holds autovacuum back: long transactions, replication slots, prepared transactions (PostgreSQL manual, section 25.1.5). Then `vacuum (freeze)` \
                 the oldest tables.",
        needs: Needs::Database,
        follows: &[],
    },
    Rule {
        name: "long-transaction",
        expression: "tercet_postgresql_longest_transaction_seconds > 1800",
        hold: minutes(1),
        severity: Severity::Warning,
        summary: "a transaction has run for {{ $value | humanizeDuration }}",
        meaning: "A transaction has been open for more than half an hour. It keeps its locks, and rows that others delete cannot be removed.",
        action: "Find it: `select pid, usename, state, xact_start, query from pg_stat_activity order by xact_start limit 5`. End it by `select pg_terminate_backend(PID)`.",
        needs: Needs::Database,
        follows: &[],
    },
    Rule {
        name: "backup-stale",
        expression: r#"tercet_backup_failing == 1
or tercet_backup_last_success_timestamp_seconds < on (machine) (
  max by (machine) (node_systemd_timer_last_trigger_seconds{name=~"tercet-backup-(full|incremental).timer"}) < time() - 6 * 3600
)
or time() - tercet_backup_last_success_timestamp_seconds > 9 * 86400
or absent(tercet_backup_last_success_timestamp_seconds) and on () count(up{job="machine"} offset 1d)"#,
        hold: minutes(1),
        severity: Severity::Critical,
        summary: "the last attempt at a backup failed, or none ended in time",
        meaning: "The last backup failed; or one was due six hours ago and has not ended; or the last one is older than 9 days; or for a day there has been none.",
        action: "`tercet backup list` names the cause. Then `tercet backup` makes one.",
        needs: Needs::Backups,
        follows: &[],
    },
    Rule {
        name: "backup-unchecked",
        expression: r#"tercet_backup_last_check_passed == 0
or time() - tercet_backup_last_passed_timestamp_seconds > 9 * 86400
or absent(tercet_backup_last_passed_timestamp_seconds) and on () count(up{job="machine"} offset 3d)"#,
        hold: minutes(1),
        severity: Severity::Critical,
        summary: "the last check of a backup failed, or no backup of the last 9 days has passed one",
        meaning: "A backup could not be restored or was not complete, or none has been tried for more than a week, or in the first three days. Whether the database could be restored is not \
                  known.",
        action: "`tercet backup list` names what the check found. Make a new one and check it: `tercet backup --full`, `tercet backup check latest`.",
        needs: Needs::Checks,
        follows: &[],
    },
    Rule {
        name: "archive-lag",
        expression: r#"max by (machine) (tercet_postgresql_archive_waiting_seconds) > 5
or max by (machine) (tercet_archive_lag_seconds) > 300
or time() - max by (machine) (node_textfile_mtime_seconds{file=~".*/archive.prom"}) > 300
or max by (machine) (
  up{job="machine"} == 1 and on (machine) up{job="postgresql"} offset 30m unless on (machine) tercet_archive_lag_seconds
)"#,
        hold: seconds(60),
        severity: Severity::Critical,
        summary: "{{ $labels.machine }} does not archive its write-ahead log",
        meaning: "A segment of the write-ahead log waits, and none is archived: what is committed now would be missing in a restore, and the disk fills with it. Or archiving is \
                  more than 5 minutes behind, or the task that looks at the archive has not run for 5 minutes, or never.",
        action: "`tercet status` and `tercet logs --tier database` name the cause: the backup machine or the object store cannot be reached, or its disk is full.",
        needs: Needs::Backups,
        follows: &[Cause::Database(seconds(0))],
    },
];
