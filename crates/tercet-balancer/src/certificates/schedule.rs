//! When a certificate is obtained or renewed. Pure: times are in seconds since 1970.

use std::time::Duration;

use super::folder::{Failure, Record};
use crate::x509::Leaf;

/// What an attempt failed by, which decides how soon the next one may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The self-check before an order found that the domain does not lead here.
    SelfCheck,
    /// The authority could not be reached, or failed itself.
    Unreachable,
    /// A file in the folder could not be written: the disk is full.
    Unwritable,
    /// The authority does not know the account any more; another one is created.
    NoAccount,
    /// The authority refused: it could not validate the domain, or does not issue for it. Let's Encrypt allows five
    /// such failures an hour.
    Refused,
    /// The authority's rate limit is exhausted.
    RateLimited,
}

impl Kind {
    /// The first backoff in seconds, which each failure in a row doubles, and the longest.
    fn backoff(self) -> (i64, i64) {
        match self {
            Self::SelfCheck => (10, 600),
            Self::Unreachable | Self::Unwritable | Self::NoAccount => (5, 3600),
            Self::Refused => (120, 3600),
            Self::RateLimited => (3600, 6 * 3600),
        }
    }
}

/// The longest time that is waited after a failure, or before renewal information is asked for again, in seconds.
pub(super) const LONGEST_WAIT: i64 = 24 * 3600;
/// After how many self-checks in a row that failed an order is made all the same: the machine may be unable to reach its
/// own public address, and only the authority's validation counts.
const SELF_CHECKS: u32 = 3;

/// When the next attempt to obtain or renew the certificate of a domain begins.
pub(super) fn next_attempt(record: &Record, leaf: Option<&Leaf>, directory: &str, now: i64) -> i64 {
    let is_current = record.directory.as_deref().is_none_or(|from| from == directory);
    let due = match leaf {
        Some(leaf) if is_current => {
            let suggested = record.renewal.as_ref().and_then(|renewal| renewal.at);
            let suggested = suggested.map(|at| at.clamp(earliest(leaf), latest(leaf)));
            suggested.unwrap_or_else(|| two_thirds(leaf))
        }
        _ => now,
    };
    let failure = record.failure.as_ref().filter(|failure| failure.directory == directory);
    failure.map_or(due, |failure| due.max(sane(failure.retry_at, now)))
}

/// When to ask the authority for renewal information again; `None` before there is a certificate.
pub(super) fn next_question(record: &Record, leaf: Option<&Leaf>, now: i64) -> Option<i64> {
    leaf.and(record.renewal.as_ref()).map(|renewal| sane(renewal.ask_again, now))
}

/// A recorded time; now if it is later than any that is recorded: the clock was set back since.
fn sane(recorded: i64, now: i64) -> i64 {
    if recorded - now > LONGEST_WAIT { now } else { recorded }
}

/// When two thirds of a certificate's validity are over.
fn two_thirds(leaf: &Leaf) -> i64 {
    leaf.not_before + (leaf.not_after - leaf.not_before) / 3 * 2
}

/// Before this time no suggestion is followed: an authority whose windows are always over would be sent one order after
/// another.
fn earliest(leaf: &Leaf) -> i64 {
    leaf.not_before + (leaf.not_after - leaf.not_before) / 100
}

/// After this time no suggestion is followed: an order may fail and need another one before the certificate expires. The windows of
/// pebble 2.6 are two days long, whatever the validity.
fn latest(leaf: &Leaf) -> i64 {
    leaf.not_after - (leaf.not_after - leaf.not_before) / 6
}

/// When to renew in a suggested window (RFC 9773 section 4.2): the time chosen before if it is still in the window, else
/// a random one; `random` is in 0..1.
pub(super) fn in_window(before: Option<i64>, start: i64, end: i64, random: f64) -> i64 {
    match before {
        Some(before) if (start..=end).contains(&before) => before,
        _ => start + ((end - start).max(0) as f64 * random) as i64,
    }
}

/// The record of a failure after those before.
pub(super) fn failed(
    before: Option<&Failure>,
    directory: &str,
    (kind, reason): (Kind, String),
    retry_after: Option<Duration>,
    now: i64,
) -> Failure {
    let before = before.filter(|before| before.directory == directory);
    let count = before.map_or(0, |before| before.count).saturating_add(1);
    let (first, longest) = kind.backoff();
    let backoff = first.saturating_mul(1 << (count - 1).min(20)).min(longest);
    let asked = retry_after.map_or(0, |after| i64::try_from(after.as_secs()).unwrap_or(i64::MAX));
    Failure {
        directory: directory.to_owned(),
        count,
        reason,
        at: now,
        retry_at: now.saturating_add(backoff.max(asked.min(LONGEST_WAIT))),
        http_failed: before.is_some_and(|before| before.http_failed),
    }
}

/// Whether a self-check that failed delays the order.
pub(super) fn holds_back(before: Option<&Failure>) -> bool {
    before.map_or(0, |before| before.count) % (SELF_CHECKS + 1) < SELF_CHECKS
}

#[cfg(test)]
mod tests {
    use super::super::folder::Renewal;
    use super::*;

    const CA: &str = "https://ca.example/dir";

    fn leaf(not_before: i64, not_after: i64) -> Leaf {
        Leaf { names: vec!["a.example".into()], issuer: "R1".into(), not_before, not_after }
    }

    fn of_ca(renew_at: Option<i64>) -> Record {
        let renewal = Some(Renewal { at: renew_at, ask_again: 0 });
        Record { directory: Some(CA.to_owned()), renewal, ..Record::default() }
    }

    #[test]
    fn a_certificate_is_renewed_in_its_window_or_after_two_thirds() {
        let hour = 3600;
        let day = 24 * hour;
        for (days, expected) in [(90, 60 * day), (64, 64 * day / 3 * 2), (6, 4 * day)] {
            assert_eq!(next_attempt(&of_ca(None), Some(&leaf(0, days * day)), CA, 5), expected);
        }
        assert_eq!(next_attempt(&of_ca(None), Some(&leaf(100, 130)), CA, 105), 120);
        assert_eq!(next_attempt(&of_ca(Some(7 * day)), Some(&leaf(0, 90 * day)), CA, 5), 7 * day);
        // A window that is over renews at once, but not a certificate that has just been issued.
        assert_eq!(next_attempt(&of_ca(Some(-5 * day)), Some(&leaf(0, 100 * day)), CA, 5 * day), day);
        // A window after the end leaves time for another attempt.
        assert_eq!(next_attempt(&of_ca(Some(100 * day)), Some(&leaf(0, 90 * day)), CA, 5), 75 * day);
        assert_eq!(next_attempt(&of_ca(Some(50_000)), Some(&leaf(100, 130)), CA, 105), 125);
    }

    #[test]
    fn a_missing_certificate_or_one_of_another_authority_is_obtained_now() {
        assert_eq!(next_attempt(&of_ca(None), None, CA, 5), 5);
        assert_eq!(next_attempt(&of_ca(None), Some(&leaf(0, 1000)), "https://other.example", 5), 5);
        // The record was lost: the certificate is taken to be of this authority.
        assert_eq!(next_attempt(&Record::default(), Some(&leaf(0, 900)), CA, 5), 600);
    }

    #[test]
    fn failures_are_retried_with_a_growing_backoff() {
        let mut record = of_ca(None);
        let mut waited = Vec::new();
        for _ in 0..8 {
            let failure = (Kind::Refused, "no".to_owned());
            record.failure = Some(failed(record.failure.as_ref(), CA, failure, None, 1000));
            waited.push(next_attempt(&record, None, CA, 1000) - 1000);
        }
        assert_eq!(waited, [120, 240, 480, 960, 1920, 3600, 3600, 3600]);
        // Another authority is tried at once.
        assert_eq!(next_attempt(&record, None, "https://other.example", 1000), 1000);
        let limited = (Kind::RateLimited, "later".to_owned());
        let failure = failed(None, CA, limited, Some(Duration::from_secs(5000)), 1000);
        assert_eq!(failure.retry_at, 6000);
        let forever = failed(None, CA, (Kind::Unreachable, String::new()), Some(Duration::MAX), 0);
        assert_eq!(forever.retry_at, LONGEST_WAIT, "an authority cannot stop renewals");
    }

    #[test]
    fn a_clock_that_was_set_back_stops_nothing() {
        let failure = failed(None, CA, (Kind::Refused, String::new()), None, 1_000_000);
        let record = Record { failure: Some(failure), ..of_ca(None) };
        assert_eq!(next_attempt(&record, None, CA, 1_000_000), 1_000_120);
        assert_eq!(next_attempt(&record, None, CA, 500_000), 500_000);
        let renewal = Some(Renewal { at: None, ask_again: 1_000_000 });
        let record = Record { renewal, ..of_ca(None) };
        let leaf = leaf(900_000, 2_000_000);
        assert_eq!(next_question(&record, Some(&leaf), 999_000), Some(1_000_000));
        assert_eq!(next_question(&record, Some(&leaf), 500_000), Some(500_000));
        assert_eq!(next_question(&record, None, 500_000), None);
    }

    #[test]
    fn every_fourth_attempt_is_made_although_the_self_check_fails() {
        let mut before = None;
        let mut orders = Vec::new();
        for _ in 0..8 {
            let held = holds_back(before.as_ref());
            orders.push(!held);
            let kind = if held { Kind::SelfCheck } else { Kind::Refused };
            before = Some(failed(before.as_ref(), CA, (kind, String::new()), None, 0));
        }
        assert_eq!(orders, [false, false, false, true, false, false, false, true]);
    }

    #[test]
    fn the_time_in_a_window_is_kept_while_it_is_in_the_window() {
        assert_eq!(in_window(None, 100, 200, 0.5), 150);
        assert_eq!(in_window(Some(120), 100, 200, 0.5), 120);
        assert_eq!(in_window(Some(300), 100, 200, 0.0), 100);
        assert_eq!(in_window(None, 200, 100, 0.9), 200);
    }
}
