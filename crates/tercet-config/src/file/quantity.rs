//! Amounts with their unit. Which texts are one is the schema's to say, by the names in `FORMATS`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A way to write an amount: its name in the schema, its units, and an example.
pub(crate) struct Format {
    pub(crate) name: &'static str,
    /// Each with how many of the smallest it is.
    units: &'static [(&'static str, u64)],
    pub(crate) like: &'static str,
}

/// The ways there are.
pub(crate) const FORMATS: [Format; 2] = [
    Format {
        name: "duration",
        units: &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)],
        like: "\"250ms\", \"5s\", \"2m\" or \"1h\"",
    },
    Format {
        name: "size",
        units: &[
            ("B", 1),
            ("kB", 1000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
        ],
        like: "\"512B\", \"64KiB\" or \"10MiB\"",
    },
];

impl Format {
    /// Whether a text is a whole number and one of the units, and together they fit 64 bits.
    pub(crate) fn is(&self, text: &str) -> bool {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let size = self.units.iter().find(|(name, _)| *name == unit.trim_start());
        let amount =
            number.parse::<u64>().ok().zip(size).and_then(|(number, (_, size))| number.checked_mul(*size));
        amount.is_some()
    }
}

/// How long, like `"5s"`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Duration(String);

impl Duration {
    /// As it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// How large, like `"64KiB"`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Size(String);

impl JsonSchema for Duration {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": FORMATS[0].name})
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
        json_schema!({"type": "string", "format": FORMATS[1].name})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_a_whole_number_and_a_unit() {
        let [duration, size] = FORMATS;
        for (text, expected) in [
            ("5s", true),
            ("5 s", true),
            ("250ms", true),
            ("0s", true),
            ("5", false),
            ("s", false),
            ("1.5s", false),
            ("-1s", false),
        ] {
            assert_eq!(duration.is(text), expected, "{text}");
        }
        for (text, expected) in [("64KiB", true), ("1GB", true), ("64kib", false), ("5s", false), ("", false)]
        {
            assert_eq!(size.is(text), expected, "{text}");
        }
    }
}
