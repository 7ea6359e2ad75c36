//! The reference pages, made from the schema: each option with its type, documentation, default and example.

use std::fmt::Write as _;

use serde_json::Value as Json;

use crate::{api, balancer, schema};

/// The page of the balancer's own file.
pub fn balancer() -> String {
    let mut page = String::from(
        "<!-- Written by `cargo xtask generate` from the declarations in crates/tercet-options. -->

# The balancer's options

The options of `tercet balancer --config FILE`. The file is TOML; [the guide](balancer.md) has an example. Every option has a
default unless it is required. A duration is a whole number and a unit: `\"250ms\"`, `\"5s\"`, `\"2m\"`, `\"1h\"`, `\"365d\"`; so is a
size: `\"512B\"`, `\"64KiB\"`, `\"10MiB\"`, `\"1GiB\"`. Relative paths start at the file's folder. All mistakes of a file are reported at
once, each with its position and what to do about it; a file with a mistake is not used.
",
    );
    let schema = schema::for_editors(schema::of_tier::<balancer::Config>());
    options(&mut page, "", &schema);
    page
}

/// A configuration file of the data API with every option in comments: its documentation, and its default or an example.
pub fn api_example() -> String {
    let mut file = String::from(
        "# The options of a data API server: each with its default, or an example where it has none.\n\
         # The environment (PGRST_DB_URI, …) overrides this file, and the database (pgrst.db_uri, …) overrides both.\n",
    );
    for (name, rule) in properties(api::rules()) {
        let (prefix, rule) = match rule["properties"].get("settings") {
            Some(settings) => (format!("{name}.settings."), settings),
            None => (String::new(), rule),
        };
        file.push('\n');
        for line in text(rule).lines() {
            let _ = writeln!(file, "## {line}");
        }
        match rule["examples"].get(0).filter(|_| rule["default"].is_null() || !prefix.is_empty()) {
            Some(Json::Object(examples)) => {
                for (name, value) in examples {
                    let _ = writeln!(file, "# {prefix}{name} = {value}");
                }
            }
            Some(example) => drop(writeln!(file, "# {name} = {example}")),
            None => drop(writeln!(file, "# {name} = {}", rule["default"])),
        }
    }
    file
}

/// Stands for the name in the path of a table that the user names.
const NAME: &str = "NAME";

/// The options of a table, then the tables in it, each under its own heading.
fn options(page: &mut String, path: &str, table: &Json) {
    let mut tables = Vec::new();
    for (name, rule) in properties(table) {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let by_name = &rule["additionalProperties"];
        if by_name["properties"].is_object() {
            let path = format!("{path}.{NAME}");
            tables.push((format!("[{path}]"), path, by_name));
            continue;
        }
        // A table in one with a name has the options of the table outside.
        let is_described = path.contains(NAME);
        if rule["properties"].is_object() && !is_described {
            tables.push((format!("[{path}]"), path, rule));
            continue;
        }
        page.push_str(&option(name, rule));
        let entry = entry(rule).filter(|_| !is_described);
        tables.extend(entry.map(|entry| (format!("[[{path}]]"), path, entry)));
    }
    for (heading, path, table) in tables {
        let _ = write!(page, "\n## `{heading}`\n\n{}\n", text(table));
        options(page, &path, table);
    }
}

/// The rule of the tables in a list of tables.
pub fn entry(rule: &Json) -> Option<&Json> {
    let items = &rule["items"];
    let forms = items["anyOf"].as_array().into_iter().flatten();
    forms.chain([items]).find(|form| form["properties"].is_object())
}

/// The options of a table, by name.
pub fn properties(table: &Json) -> Vec<(&String, &Json)> {
    let mut properties: Vec<_> = table["properties"].as_object().into_iter().flatten().collect();
    // serde_json keeps their order or not, as its other users want it.
    properties.sort_by_key(|(name, _)| *name);
    properties
}

/// One option: its name, type, documentation, default and an example.
pub fn option(name: &str, rule: &Json) -> String {
    let mut entry = format!("\n### `{name}`\n\n*{}*\n\n{}\n", kind(rule), text(rule));
    if let Some(choices) = rule["oneOf"].as_array() {
        entry.push('\n');
        for choice in choices {
            let _ = writeln!(entry, "- `{}`: {}", choice["const"], text(choice));
        }
    }
    if let Some(default) = rule.get("default") {
        let _ = write!(entry, "\nDefault: `{}`.\n", toml(default));
    }
    if let Some(example) = rule["examples"].get(0) {
        let _ = write!(entry, "\n```toml\n{name} = {example}\n```\n");
    }
    entry
}

/// A default as it would be written; an entry of a list as its address.
fn toml(value: &Json) -> String {
    match value {
        Json::Array(values) => {
            let entry = |entry: &Json| entry.get("address").unwrap_or(entry).to_string();
            format!("[{}]", values.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        value => value.to_string(),
    }
}

/// The type of an option, with its range.
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
        ("array", ..) => format!("list of {}", plural(&rule["items"])),
        ("object", ..) if rule["properties"].is_object() => "table".to_owned(),
        ("object", ..) => "table of strings".to_owned(),
        ("boolean", ..) => "true or false".to_owned(),
        (kind, ..) => {
            let kind = rule["format"].as_str().filter(|_| kind == "string").unwrap_or(kind);
            match (rule["x-minimum"].as_str(), rule["x-maximum"].as_str()) {
                (Some(least), Some(most)) => format!("{kind}, {least} to {most}"),
                _ => kind.to_owned(),
            }
        }
    }
}

fn plural(rule: &Json) -> String {
    if let Some(forms) = rule["anyOf"].as_array() {
        return forms.iter().map(plural).collect::<Vec<_>>().join(" or ");
    }
    let kind = kind(rule).replace("one of the following", "name");
    format!("{kind}{}", if kind.ends_with('s') { "es" } else { "s" })
}

/// The documentation of a rule.
pub fn text(rule: &Json) -> &str {
    rule["description"].as_str().unwrap_or_default()
}
