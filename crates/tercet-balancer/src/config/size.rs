//! Sizes as people write them: a whole number and a unit, `"512B"`, `"64KiB"`, `"10MiB"`, `"1GiB"`, `"10MB"`.

use serde::{Deserialize, Deserializer, Serializer, de};

const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

pub(super) fn parse(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*bytes)
}

/// The largest unit that leaves a whole number.
pub(super) fn format(size: u64) -> String {
    let (unit, bytes) =
        UNITS.into_iter().find(|(_, bytes)| size > 0 && size.is_multiple_of(*bytes)).unwrap_or(("B", 1));
    format!("{}{unit}", size / bytes)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| {
        de::Error::invalid_value(de::Unexpected::Str(&text), &"a size like \"512B\", \"64KiB\" or \"10MiB\"")
    })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
pub(super) fn serialize<S: Serializer>(size: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit() {
        for (text, bytes) in
            [("512B", 512), ("64KiB", 65_536), ("10MiB", 10 << 20), ("1GiB", 1 << 30), ("0B", 0)]
        {
            assert_eq!(parse(text), Some(bytes), "{text}");
            assert_eq!(format(bytes), text);
        }
        assert_eq!(parse("10MB"), Some(10_000_000));
        for text in
            ["", "5", "KiB", "-5B", "1.5MiB", "64kib", "99999999999999999999B", "18446744073709551615KiB"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
