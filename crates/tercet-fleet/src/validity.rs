//! How long certificates are valid: by the dates written in them, never by those of files, which a copy changes.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::paths::{CONFIGURATION, CREDENTIALS};

/// Days before its end from which a certificate is warned about: eight weeks.
const WARNING_DAYS: i64 = 56;

const DAY: i64 = 86_400;

/// When a certificate is valid, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    not_before: i64,
    not_after: i64,
}

impl Validity {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn of(pem: &str) -> Result<Self> {
        let body =
            pem.split_once("-----BEGIN CERTIFICATE-----").and_then(|(_, rest)| rest.split_once("-----END"));
        let (body, _) = body.context("there is no certificate")?;
        let text: String = body.split_whitespace().collect();
        let der = STANDARD.decode(text).context("a certificate that is not base64")?;
        Self::in_der(&der).context("a certificate that is not X.509")
    }

    /// The `validity` of a certificate (RFC 5280, section 4.1): `SEQUENCE { SEQUENCE { [0] version, serial, algorithm,
    /// issuer, SEQUENCE { notBefore, notAfter }, … } … }`.
    fn in_der(der: &[u8]) -> Option<Self> {
        let (_, certificate, _) = element(der)?;
        let (_, mut fields, _) = element(certificate)?;
        if fields.first() == Some(&0xa0) {
            fields = element(fields)?.2;
        }
        for _ in 0..3 {
            fields = element(fields)?.2;
        }
        let (_, validity, _) = element(fields)?;
        let (begins_as, begins, rest) = element(validity)?;
        let (ends_as, ends, _) = element(rest)?;
        Some(Self { not_before: instant(begins_as, begins)?, not_after: instant(ends_as, ends)? })
    }

    /// Whether more than two thirds of it are still to come, so that it need not be renewed.
    pub(crate) fn is_young(self, now: SystemTime) -> bool {
        let now = seconds(now);
        self.not_before <= now && self.not_after - now > (self.not_after - self.not_before) * 2 / 3
    }

    /// The warning about a certificate that expires soon or has expired.
    fn warning(self, path: &Path, now: SystemTime) -> Option<String> {
        let days = (self.not_after - seconds(now)).div_euclid(DAY);
        let path = path.display();
        match days {
            ..0 => {
                Some(format!("certificate {path} expired {} days ago; hint: tercet apply renews it", -days))
            }
            0..=WARNING_DAYS => {
                Some(format!("certificate {path} expires in {days} days; hint: tercet apply renews it"))
            }
            _ => None,
        }
    }
}

/// The first element of DER text (X.690, section 8.1): its tag, its contents, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&length, mut rest) = rest.split_first()?;
    let mut count = usize::from(length);
    if length >= 0x80 {
        let (digits, after) =
            rest.split_at_checked(usize::from(length & 0x7f)).filter(|(it, _)| it.len() <= 4)?;
        count = digits.iter().fold(0, |count, digit| count << 8 | usize::from(*digit));
        rest = after;
    }
    let (contents, rest) = rest.split_at_checked(count)?;
    Some((tag, contents, rest))
}

/// `YYMMDDhhmmssZ` (UTCTime: 1950 to 2049) or `YYYYMMDDhhmmssZ` (RFC 5280, section 4.1.2.5).
fn instant(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        0x17 if text.get(..2)? < "50" => format!("20{text}"),
        0x17 => format!("19{text}"),
        0x18 => text.to_owned(),
        _ => return None,
    };
    let parsed = jiff::fmt::strtime::parse("%Y%m%d%H%M%SZ", text).ok()?.to_datetime().ok()?;
    Some(jiff::tz::TimeZone::UTC.to_timestamp(parsed).ok()?.as_second())
}

fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed())
}

/// Warnings about tercet's certificates on the machine this runs on: none for most of their life. A unit on every machine
/// logs them each day, weeks before a certificate expires.
pub fn warnings() -> Vec<String> {
    let now = SystemTime::now();
    here().iter().filter_map(|(path, validity)| validity.warning(path, now)).collect()
}

/// When the first certificate of a PEM text expires; `None` if there is none.
pub fn end_of(pem: &str) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_second(Validity::of(pem).ok()?.not_after).ok()
}

/// When the first of tercet's certificates on the machine this runs on expires; `None` where there are none.
pub(crate) fn first_end() -> Option<jiff::Timestamp> {
    let ends = here().into_iter().map(|(_, validity)| validity.not_after);
    ends.min().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
}

/// When each of tercet's certificates on the machine this runs on expires, in seconds since the Unix epoch.
pub(crate) fn ends() -> Vec<(PathBuf, i64)> {
    here().into_iter().map(|(path, validity)| (path, validity.not_after)).collect()
}

/// The certificates on the machine this runs on, in the order of their paths.
fn here() -> Vec<(PathBuf, Validity)> {
    let mut paths = Vec::new();
    let configuration = Path::new(CONFIGURATION);
    for folder in [CREDENTIALS.into(), configuration.join("postgresql"), configuration.join("backup")] {
        collect(&folder, &mut paths);
    }
    paths.sort();
    let read = |path: PathBuf| {
        let validity = Validity::of(&std::fs::read_to_string(&path).ok()?).ok()?;
        Some((path, validity))
    };
    paths.into_iter().filter_map(read).collect()
}

/// The certificates in a folder and those in it.
fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "crt") {
            paths.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_no_certificate_is_refused() {
        for pem in
            ["", "-----BEGIN CERTIFICATE-----\nMII=\n-----END", "-----BEGIN CERTIFICATE-----\n!\n-----END"]
        {
            assert!(Validity::of(pem).is_err(), "{pem}");
        }
        assert_eq!(instant(0x17, b"491231235959Z"), Some(2_524_607_999));
        assert_eq!(instant(0x18, b"20500101000000Z"), Some(2_524_608_000));
        assert_eq!(instant(0x17, b"700101000000Z"), Some(0));
        assert_eq!((element(&[0x30, 0x82, 0xff]), element(&[0x30, 3, 1]), element(&[])), (None, None, None));
    }

    #[test]
    fn a_certificate_is_warned_about_eight_weeks_before_its_end_and_after_it() {
        let year = Validity { not_before: 0, not_after: 365 * DAY };
        let check = |day: i64| {
            let now = UNIX_EPOCH + Duration::from_secs((day * DAY) as u64 + 1);
            (year.is_young(now), year.warning(Path::new("/a.crt"), now))
        };
        assert_eq!(check(100), (true, None));
        assert_eq!(check(200), (false, None));
        let warning = |text: &str| Some(format!("certificate /a.crt {text}; hint: tercet apply renews it"));
        assert_eq!(check(330).1, warning("expires in 34 days"));
        assert_eq!(check(365).1, warning("expired 1 days ago"));
    }
}
