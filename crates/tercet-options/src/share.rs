//! A share of a whole, written as a percentage: `"1%"`, `"0.5%"`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A share, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u32);

/// A percent in millionths.
const PERCENT: u32 = 10_000;

impl Share {
    /// So many percent, at most 100.
    pub const fn percent(percent: u32) -> Self {
        assert!(percent <= 100, "a share is at most a whole");
        Self(percent * PERCENT)
    }

    /// A number of percent with at most four decimals, and a percent sign; `None` when it is not that, or more than 100.
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.strip_suffix('%')?.trim_end();
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) || decimals.len() > 4 {
            return None;
        }
        let millionths = whole.parse::<u32>().ok()?.checked_mul(PERCENT)?;
        let share = millionths.checked_add(format!("{decimals:0<4}").parse().ok()?)?;
        (share <= 100 * PERCENT).then_some(Self(share))
    }

    /// The share of 1.
    pub fn of_one(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:04}", self.0 % PERCENT);
        match decimals.trim_end_matches('0') {
            "" => write!(f, "{}%", self.0 / PERCENT),
            decimals => write!(f, "{}.{decimals}%", self.0 / PERCENT),
        }
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || de::Error::invalid_value(de::Unexpected::Str(&text), &"a percentage");
        Self::parse(&text).ok_or_else(wrong)
    }
}

impl JsonSchema for Share {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "share"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage() {
        for (text, millionths, written) in [
            ("1%", 10_000, "1%"),
            ("0%", 0, "0%"),
            ("100%", 1_000_000, "100%"),
            ("100.0%", 1_000_000, "100%"),
            ("0.5 %", 5000, "0.5%"),
            ("12.3456%", 123_456, "12.3456%"),
        ] {
            let share = Share::parse(text).unwrap();
            assert_eq!((share.0, &*share.to_string()), (millionths, written), "{text}");
        }
        for text in
            ["", "%", "1", "100.0001%", "101%", "-1%", "+1%", "1.%", ".5%", "0.00001%", "99999999999%"]
        {
            assert_eq!(Share::parse(text), None, "{text}");
        }
    }
}
