//! Amounts with their unit. Which texts are one is the schema's to say, by the names in `FORMATS`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A way to write an amount: its name in the schema, its units, and an example.
pub(crate) struct Format {
    pub(crate) name: &'static str,
    pub(crate) units: &'static [&'static str],
    pub(crate) like: &'static str,
}

/// The ways there are.
pub(crate) const FORMATS: [Format; 2] = [
    Format {
        name: "duration",
        units: &["ms", "s", "m", "h", "d"],
        like: "\"250ms\", \"5s\", \"2m\" or \"1h\"",
    },
    Format {
        name: "size",
        units: &["B", "kB", "MB", "GB", "KiB", "MiB", "GiB"],
        like: "\"512B\", \"64KiB\" or \"10MiB\"",
    },
];

impl Format {
    /// Whether a text is a whole number and one of the units.
    pub(crate) fn is(&self, text: &str) -> bool {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        number.parse::<u32>().is_ok() && self.units.contains(&unit.trim_start())
    }
}

/// How long, like `"5s"`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Duration(String);

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
