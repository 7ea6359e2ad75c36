//! The reference page and the JSON Schema of `tercet.toml`, made from the documentation of its keys.

use std::fmt::Write as _;

use serde_json::Value as Json;
use tercet_options::reference::{entry, option, properties, text};
use tercet_options::schema;

use crate::file::File;

/// The JSON Schema (draft 2020-12) by which editors complete and check.
pub fn json_schema() -> Json {
    schema::for_editors(rules())
}

/// The rules that this crate reads by.
pub(crate) fn rules() -> Json {
    let mut schema = schema::of::<File>();
    schema["title"] = "tercet.toml".into();
    schema
}

/// The sections, in the order of the page.
const SECTIONS: [&str; 11] = [
    "balancer",
    "application",
    "api",
    "database",
    "machine",
    "backup",
    "monitoring",
    "alerts",
    "firewall",
    "system",
    "state",
];

/// The reference page: every section and key.
pub fn markdown() -> String {
    let schema = json_schema();
    let mut page = String::from(
        "<!-- Written by `cargo xtask generate` from the declarations in crates/tercet-config and crates/tercet-options. -->\n\n\
         # tercet.toml, key by key\n",
    );
    let _ = write!(page, "\n{}\n", text(&schema));
    let sections = &schema["properties"];
    let _ = write!(page, "\n## At the top\n{}", key("name", &sections["name"]));
    for section in SECTIONS {
        let rule = &sections[section];
        let (heading, table) = match entry(rule) {
            Some(table) => (format!("[[{section}]]"), table),
            None => (format!("[{section}]"), rule),
        };
        let _ = write!(page, "\n## {heading}\n\n{}\n", text(rule));
        for (name, rule) in properties(table) {
            page.push_str(&key(name, rule));
        }
        let named = &rule["additionalProperties"];
        if named["properties"].is_object() {
            let _ = write!(page, "\n## [{section}.NAME]\n\n{}\n", text(named));
        }
    }
    page
}

/// A key of a section, and those of the tables in it.
fn key(name: &str, rule: &Json) -> String {
    if rule["properties"].is_object() {
        let inner = properties(rule).into_iter().map(|(inner, rule)| key(&format!("{name}.{inner}"), rule));
        return inner.collect();
    }
    let mut page = option(name, rule);
    for (inner, rule) in entry(rule).map(properties).into_iter().flatten() {
        page.push_str(&key(&format!("{name}[].{inner}"), rule));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_section_of_the_file() {
        let schema = json_schema();
        let tables = schema["properties"].as_object().unwrap().iter();
        let missing: Vec<_> = tables
            .filter(|(name, rule)| rule["type"] != "string" && !SECTIONS.contains(&name.as_str()))
            .map(|(name, _)| name)
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
