//! Amounts with their unit, written as a whole number and a unit: `"250ms"`, `"64KiB"`.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A unit's name, and how many of the smallest unit it is.
pub(crate) type Unit = (&'static str, u64);

/// The units of durations, the largest first.
pub(crate) const DURATION: [Unit; 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// The units of sizes, the largest first.
pub(crate) const SIZE: [Unit; 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

/// A whole number and one of the units, in the smallest unit; `None` when it is not that, or more than 64 bits.
pub(crate) fn parse(text: &str, units: &[Unit]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, size) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*size)
}

/// An amount in the largest unit that leaves a whole number; zero in `zero`.
fn write(amount: u64, units: &[Unit], zero: &str) -> String {
    match units.iter().find(|(_, size)| amount > 0 && amount.is_multiple_of(*size)) {
        Some((unit, size)) => format!("{}{unit}", amount / size),
        None => format!("0{zero}"),
    }
}

fn deserialize<'de, D: Deserializer<'de>>(deserializer: D, units: &[Unit]) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let expected = "a whole number and a unit";
    parse(&text, units).ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), &expected))
}

/// A duration, like `"5s"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(std::time::Duration);

impl Duration {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn milliseconds(milliseconds: u64) -> Self {
        Self(std::time::Duration::from_millis(milliseconds))
    }
}

impl Deref for Duration {
    type Target = std::time::Duration;

    fn deref(&self) -> &std::time::Duration {
        &self.0
    }
}

impl From<std::time::Duration> for Duration {
    fn from(duration: std::time::Duration) -> Self {
        Self(duration)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&write(self.as_millis() as u64, &DURATION, "s"))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer, &DURATION).map(|millis| Self(std::time::Duration::from_millis(millis)))
    }
}

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "duration"})
    }
}

/// A duration that is not zero and at most a year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeout(Duration);

impl Timeout {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::seconds(seconds))
    }
}

impl Deref for Timeout {
    type Target = std::time::Duration;

    fn deref(&self) -> &std::time::Duration {
        &self.0
    }
}

impl From<std::time::Duration> for Timeout {
    fn from(duration: std::time::Duration) -> Self {
        Self(duration.into())
    }
}

impl JsonSchema for Timeout {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Timeout".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "duration", "x-minimum": "1ms", "x-maximum": "366d"})
    }
}

/// A number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(std::time::Duration);

impl Seconds {
    /// So many seconds.
    pub const fn new(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }
}

impl Deref for Seconds {
    type Target = std::time::Duration;

    fn deref(&self) -> &std::time::Duration {
        &self.0
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0.as_secs())
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u64::deserialize(deserializer).map(Self::new)
    }
}

impl JsonSchema for Seconds {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Seconds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 0})
    }
}

/// A size in bytes, like `"64KiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Deref for Size {
    type Target = u64;

    fn deref(&self) -> &u64 {
        &self.0
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&write(self.0, &SIZE, "B"))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer, &SIZE).map(Self)
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "size"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(units: &[Unit], text: &str, expected: Option<(u64, &str)>) {
        let amount = parse(text, units);
        assert_eq!(amount, expected.map(|(amount, _)| amount), "{text}");
        let zero = units.iter().find(|(_, size)| *size == 1).map_or("", |(name, _)| *name);
        let written = amount.map(|amount| write(amount, units, zero));
        assert_eq!(written.as_deref(), expected.map(|(_, written)| written), "{text}");
    }

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        for (text, millis, written) in [
            ("250ms", 250, "250ms"),
            ("5s", 5000, "5s"),
            ("5 s", 5000, "5s"),
            ("2000ms", 2000, "2s"),
            ("2m", 120_000, "2m"),
            ("1h", 3_600_000, "1h"),
            ("24h", 86_400_000, "1d"),
            ("0s", 0, "0ms"),
        ] {
            check(&DURATION, text, Some((millis, written)));
        }
        for text in
            ["", "5", "s", "-5s", "+5s", "1.5s", "5 years", "99999999999999999999s", "18446744073709551615d"]
        {
            check(&DURATION, text, None);
        }
    }

    #[test]
    fn a_size_is_a_whole_number_and_a_unit() {
        for (text, bytes, written) in [
            ("512B", 512, "512B"),
            ("64KiB", 65_536, "64KiB"),
            ("10MiB", 10 << 20, "10MiB"),
            ("1GiB", 1 << 30, "1GiB"),
            ("10MB", 10_000_000, "10MB"),
            ("0B", 0, "0B"),
        ] {
            check(&SIZE, text, Some((bytes, written)));
        }
        for text in ["", "5", "KiB", "-5B", "1.5MiB", "64kib", "5s", "18446744073709551615KiB"] {
            check(&SIZE, text, None);
        }
    }
}
