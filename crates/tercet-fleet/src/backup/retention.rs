//! How many full backups are kept: enough to go back as far as the project wants, and to the last one that passed its
//! check.

use jiff::Timestamp;

use super::record::{Backup, Kind, Record};

/// Seconds of a day.
const DAY: i64 = 86_400;

/// The number of the newest full backups to keep; at least one.
pub(super) fn full_backups(record: &Record, keep_days: u32, now: Timestamp) -> usize {
    let fulls: Vec<&Backup> = record.backups.iter().rev().filter(|it| it.kind == Kind::Full).collect();
    let horizon = now.as_second() - i64::from(keep_days) * DAY;
    // The newest one that is older than the horizon is where a restore to the horizon begins.
    let by_time = fulls.iter().position(|it| it.finished.as_second() <= horizon);
    let passed = record.last_passed().map(|(backup, _)| record.full_of(backup));
    let by_check = passed.and_then(|passed| fulls.iter().position(|it| it.id == passed.id));
    let last = by_time.unwrap_or(fulls.len().saturating_sub(1)).max(by_check.unwrap_or_default());
    last + 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use tercet_database::restored::Verification;

    /// Full backups on these days, and an incremental one after each; those of `passed` passed their check.
    fn kept(days: &[i64], passed: &[&str], failed: &[&str]) -> usize {
        let at = |day: i64, hour: i64| Timestamp::from_second(day * DAY + hour * 3600).unwrap();
        let backup = |id: String, kind, prior, finished| Backup {
            id,
            kind,
            prior,
            started: finished,
            finished,
            size: 1,
            stored: 1,
            cluster: String::new(),
            is_damaged: false,
            damage: Vec::new(),
        };
        let backups = days.iter().flat_map(|day| {
            let id = format!("{day}F");
            let incremental = backup(format!("{day}I"), Kind::Incremental, Some(id.clone()), at(*day, 12));
            [backup(id, Kind::Full, None, at(*day, 3)), incremental]
        });
        let good = Verification { findings: Vec::new(), ..Verification::not_restored("") };
        let good = passed.iter().map(|id| ((*id).to_owned(), good.clone()));
        let bad = failed.iter().map(|id| ((*id).to_owned(), Verification::not_restored("damaged")));
        let checks: BTreeMap<String, Verification> = good.chain(bad).collect();
        let record = Record { backups: backups.collect(), checks, ..Record::default() };
        full_backups(&record, 28, at(100, 0))
    }

    #[test]
    fn a_restore_to_the_horizon_begins_with_the_last_full_backup_before_it() {
        assert_eq!(kept(&[58, 65, 72, 79, 86, 93], &["93I"], &[]), 5);
        assert_eq!(kept(&[93], &[], &[]), 1);
        assert_eq!(kept(&[], &[], &[]), 1);
    }

    #[test]
    fn the_last_that_passed_its_check_is_kept_beyond_the_horizon() {
        assert_eq!(kept(&[51, 58, 65, 72, 79, 86, 93], &["58I"], &["93I", "86F"]), 6);
        // One that passed before counts no more once it fails.
        assert_eq!(kept(&[51, 58, 93], &["51F"], &["58F", "93F"]), 3);
    }
}
