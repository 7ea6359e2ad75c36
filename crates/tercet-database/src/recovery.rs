//! The target of a recovery: the time or restore point that a restored cluster is recovered to.

use std::fmt;
use std::str::FromStr as _;

use jiff::{Span, Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};
use tercet_postgres::quote;

/// The prefix of the restore points that precede a release's migrations.
const RELEASE_POINT: &str = "tercet ";
/// The fewest and the most digits of a release's id.
const RELEASE_DIGITS: std::ops::RangeInclusive<usize> = 8..=32;

/// A recovery target (PostgreSQL manual, section 20.5.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryTarget {
    /// The end of the archive.
    Latest,
    /// The last transaction that was committed before this time.
    Time(Timestamp),
    /// The restore point before the migrations of the release with this id.
    BeforeRelease(String),
}

/// A text that names no recovery target.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It is not one of the forms of a target.
    #[error(
        "{0:?} is no time\nhint: write a time with its offset (2026-11-29T21:30:00Z, 2026-11-29T22:30:00+01:00), \"10 minutes ago\", \
         latest, or the id of a release"
    )]
    Invalid(String),
    /// The time is later than now.
    #[error("{0} has not come yet\nhint: name an earlier time, or latest")]
    Future(Timestamp),
}

impl RecoveryTarget {
    /// Reads a target: a time with an offset (RFC 3339), a span before `now` like `10 minutes ago`, `latest`, or a
    /// release's id.
    ///
    /// # Errors
    /// The text is none of these, or the time is later than `now`.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, TargetError> {
        let text = text.trim();
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let is_release = RELEASE_DIGITS.contains(&text.len())
            && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_release {
            return Ok(Self::BeforeRelease(text.to_owned()));
        }
        let time = Timestamp::from_str(text).ok().or_else(|| ago(text, now));
        match time {
            Some(time) if time > now => Err(TargetError::Future(time)),
            Some(time) => Ok(Self::Time(time)),
            None => Err(TargetError::Invalid(text.to_owned())),
        }
    }

    /// The name of the restore point before a release's migrations, for `pg_create_restore_point`.
    pub fn restore_point(release: &str) -> String {
        format!("{RELEASE_POINT}{release}")
    }

    /// The lines of `postgresql.conf`: PostgreSQL is promoted at the target.
    pub fn settings(&self) -> String {
        let (name, value) = match self {
            Self::Latest => return String::new(),
            Self::Time(time) => ("recovery_target_time", Self::time(*time)),
            Self::BeforeRelease(release) => ("recovery_target_name", Self::restore_point(release)),
        };
        format!("{name} = {}\nrecovery_target_action = 'promote'\n", quote::setting(&value))
    }

    /// A time as PostgreSQL reads it.
    pub fn time(time: Timestamp) -> String {
        time.strftime("%Y-%m-%d %H:%M:%S.%6f+00").to_string()
    }
}

/// The time that `text`, a span like `10 minutes ago`, names.
fn ago(text: &str, now: Timestamp) -> Option<Timestamp> {
    let span = Span::from_str(text).ok().filter(Span::is_negative)?;
    // A day has 24 hours here: the zone of the person is not that of the database.
    let hours = (i64::from(span.get_weeks()) * 7 + i64::from(span.get_days())).checked_mul(24)?;
    let rest = span.weeks(0).days(0);
    now.checked_add(hours.hours()).ok()?.checked_add(rest).ok()
}

impl fmt::Display for RecoveryTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("the end of the archive"),
            Self::Time(time) => write!(f, "{time}"),
            Self::BeforeRelease(release) => {
                write!(f, "the moment before the migrations of release {release}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check(text: &str, expected: Expect) {
        let now: Timestamp = "2026-11-29T12:00:00Z".parse().unwrap();
        let shown = match RecoveryTarget::parse(text, now) {
            Ok(target) => format!("{target}\n{}", target.settings()),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn a_target_is_a_time_a_span_before_now_a_release_or_the_end() {
        check("latest", expect![["the end of the archive\n"]]);
        check(
            "2026-11-29T11:30:00+01:00",
            expect![[r"
            2026-11-29T10:30:00Z
            recovery_target_time = '2026-11-29 10:30:00.000000+00'
            recovery_target_action = 'promote'
        "]],
        );
        check(
            "10 minutes ago",
            expect![[r"
            2026-11-29T11:50:00Z
            recovery_target_time = '2026-11-29 11:50:00.000000+00'
            recovery_target_action = 'promote'
        "]],
        );
        check(
            "1 week 2 days ago",
            expect![[r"
            2026-11-20T12:00:00Z
            recovery_target_time = '2026-11-20 12:00:00.000000+00'
            recovery_target_action = 'promote'
        "]],
        );
        check(
            "0011aabbccdd",
            expect![[r"
            the moment before the migrations of release 0011aabbccdd
            recovery_target_name = 'tercet 0011aabbccdd'
            recovery_target_action = 'promote'
        "]],
        );
        check(
            "2026-11-29T12:00:01Z",
            expect![[r"
            2026-11-29T12:00:01Z has not come yet
            hint: name an earlier time, or latest"]],
        );
        check(
            "yesterday",
            expect![[r#"
            "yesterday" is no time
            hint: write a time with its offset (2026-11-29T21:30:00Z, 2026-11-29T22:30:00+01:00), "10 minutes ago", latest, or the id of a release"#]],
        );
        check(
            "10 minutes",
            expect![[r#"
            "10 minutes" is no time
            hint: write a time with its offset (2026-11-29T21:30:00Z, 2026-11-29T22:30:00+01:00), "10 minutes ago", latest, or the id of a release"#]],
        );
    }
}
