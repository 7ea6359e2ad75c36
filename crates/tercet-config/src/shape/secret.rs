//! Where a text holds secrets, so that no message shows them.

use std::ops::Range;

use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};

/// Adds where the values stand that the schema calls `writeOnly`, unless they only name a file.
pub(super) fn find(schema: &Json, table: &DeTable<'_>, hidden: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        let rule = &schema["properties"][key.get_ref().as_ref()];
        match value.get_ref() {
            DeValue::Table(inner) => find(rule, inner, hidden),
            DeValue::String(text) if rule["writeOnly"] == true && !text.starts_with('@') => {
                hidden.push(value.span());
            }
            _ => {}
        }
    }
}
