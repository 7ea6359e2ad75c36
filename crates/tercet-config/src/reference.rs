//! What can be written in `tercet.toml`, for editors and for readers, made of the fields' own documentation.

mod schema;

use std::fmt::Write as _;

use serde_json::Value as Json;

pub use self::schema::json_schema;

/// The reference page: every section and key.
pub fn markdown() -> String {
    let schema = json_schema();
    let mut page = String::from(
        "<!-- Written by `cargo xtask generate` from the documentation of the fields in crates/tercet-config. -->\n\n\
         # tercet.toml, key by key\n",
    );
    let _ = write!(page, "\n{}\n", text(&schema));
    let properties = schema["properties"].as_object().expect("the file is a table");
    let _ = write!(page, "\n## At the top\n{}", key("name", &properties["name"]));
    for section in ["balancer", "application", "api", "database", "machine", "state"] {
        let rule = &properties[section];
        let (heading, table) = match rule["items"].as_object() {
            Some(_) => (format!("[[{section}]]"), &rule["items"]),
            None => (format!("[{section}]"), rule),
        };
        let _ = write!(page, "\n## {heading}\n\n{}\n", text(rule));
        for (name, rule) in table["properties"].as_object().expect("a section is a table") {
            page.push_str(&key(name, rule));
        }
    }
    page
}

/// One key: its name, its type, what it is for, an example.
fn key(name: &str, rule: &Json) -> String {
    if let Some(inner) = rule["properties"].as_object() {
        let inner = inner.iter().map(|(inner, rule)| key(&format!("{name}.{inner}"), rule));
        return inner.collect();
    }
    let mut entry = format!("\n### `{name}`\n\n*{}*\n\n{}\n", kind(rule), text(rule));
    if let Some(choices) = rule["oneOf"].as_array() {
        entry.push('\n');
        for choice in choices {
            let _ = writeln!(entry, "- `{}`: {}", choice["const"], text(choice));
        }
    }
    if let Some(default) = rule.get("default").filter(|default| !default.is_object()) {
        let _ = write!(entry, "\nDefault: `{default}`.\n");
    }
    if let Some(example) = rule["examples"].get(0) {
        let _ = write!(entry, "\n```toml\n{name} = {example}\n```\n");
    }
    for (inner, rule) in rule["items"]["properties"].as_object().into_iter().flatten() {
        entry.push_str(&key(&format!("{name}[].{inner}"), rule));
    }
    entry
}

fn kind(rule: &Json) -> String {
    if let Some(forms) = rule["anyOf"].as_array() {
        return forms.iter().map(kind).collect::<Vec<_>>().join(", or ");
    }
    if rule["oneOf"].is_array() {
        return "one of the following".to_owned();
    }
    match (rule["type"].as_str().unwrap_or_default(), rule["minimum"].as_i64(), rule["maximum"].as_i64()) {
        ("integer", Some(least), Some(most)) if most == i64::from(u32::MAX) => {
            format!("integer, at least {least}")
        }
        ("integer", Some(least), Some(most)) => format!("integer, {least} to {most}"),
        ("integer", Some(least), None) => format!("integer, at least {least}"),
        ("array", ..) => format!("list of {}s", kind(&rule["items"]).replace("one of the following", "name")),
        ("object", ..) if rule["properties"].is_object() => "table".to_owned(),
        ("object", ..) => "table of strings".to_owned(),
        ("boolean", ..) => "true or false".to_owned(),
        (kind, ..) => rule["format"].as_str().filter(|_| kind == "string").unwrap_or(kind).to_owned(),
    }
}

fn text(rule: &Json) -> &str {
    rule["description"].as_str().unwrap_or_default()
}
