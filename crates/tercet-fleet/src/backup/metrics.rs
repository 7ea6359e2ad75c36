//! The metrics of the tasks.

use anyhow::Result;
use jiff::Timestamp;

use super::record::Record;
use super::settings::ACCOUNT;
use crate::monitor::textfile::{ARCHIVE, BACKUPS, Gauge, write};

/// The state of the archive, on the database's machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Archive {
    /// How long the oldest complete segment has waited to be archived, in seconds.
    pub(super) lag_seconds: f64,
    /// What waits to be archived, in bytes.
    pub(super) queue: u64,
    /// The size of the queue beyond which segments are dropped, in bytes.
    pub(super) queue_limit: u64,
    /// Whether the last attempt to archive a segment failed.
    pub(super) fails: bool,
}

impl Archive {
    /// Writes its metrics.
    pub(super) fn write(self) -> Result<()> {
        let gauge = Gauge::of;
        write(
            ARCHIVE,
            ACCOUNT,
            &[
                gauge(
                    "tercet_archive_lag_seconds",
                    "How long the oldest complete segment of the write-ahead log has waited to be archived.",
                    self.lag_seconds,
                ),
                gauge(
                    "tercet_archive_queue_bytes",
                    "Write-ahead log that waits to be archived.",
                    self.queue as f64,
                ),
                gauge(
                    "tercet_archive_queue_limit_bytes",
                    "The queue beyond which write-ahead log is dropped.",
                    self.queue_limit as f64,
                ),
                gauge(
                    "tercet_archive_failing",
                    "1 if the last attempt to archive a segment failed, else 0.",
                    f64::from(u8::from(self.fails)),
                ),
            ],
        )
    }
}

/// Writes the metrics of the backups and their checks.
pub(super) fn write_backups(record: &Record) -> Result<()> {
    let seconds = |time: Timestamp| time.as_second() as f64;
    let mut gauges = Vec::new();
    let mut add =
        |name, help, value: Option<f64>| gauges.extend(value.map(|value| Gauge::of(name, help, value)));
    let latest = record.latest();
    let checked = record.backups.iter().filter_map(|it| record.checks.get(&it.id)).max_by_key(|it| it.at);
    add(
        "tercet_backup_last_success_timestamp_seconds",
        "When the last backup ended.",
        latest.map(|it| seconds(it.finished)),
    );
    add(
        "tercet_backup_last_size_bytes",
        "The size of the last backup in the repository.",
        latest.map(|it| it.stored as f64),
    );
    add(
        "tercet_backup_failing",
        "1 if the last attempt at a backup failed, else 0.",
        Some(f64::from(u8::from(record.failure.is_some()))),
    );
    add(
        "tercet_backup_last_check_timestamp_seconds",
        "When the last check of a backup ended.",
        checked.map(|it| seconds(it.at)),
    );
    add(
        "tercet_backup_last_check_passed",
        "1 if the last check of a backup passed, else 0.",
        checked.map(|it| f64::from(u8::from(it.passed()))),
    );
    add(
        "tercet_backup_last_passed_timestamp_seconds",
        "When the last backup that passed its check ended.",
        record.last_passed().map(|(backup, _)| seconds(backup.finished)),
    );
    add(
        "tercet_backup_measured_loss_seconds",
        "The age of the heartbeat in the last restored copy: what a restore would have lost.",
        checked.and_then(|it| it.heartbeat_seconds),
    );
    write(BACKUPS, ACCOUNT, &gauges)
}
