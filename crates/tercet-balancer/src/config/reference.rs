//! `docs/guide/balancer-options.md`, written from the documentation of the options, and the guide's example.
//!
//! `UPDATE_EXPECT=1 cargo test -p tercet-balancer reference` writes it anew.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use expect_test::expect_file;
use serde_json::{Map, Value, json};

use super::{Config, Listen, Server};

const START: &str = "<!-- Written by a test of crates/tercet-balancer from the documentation of its options. -->

# The balancer's options

What `tercet balancer --config FILE` may be told. The file is TOML; [the guide](balancer.md) has an example. Every option has a
default unless it says that it is required. Durations are written like `\"250ms\"`, `\"5s\"`, `\"2m\"`, `\"1h\"` or `\"365d\"`, sizes like
`\"512B\"`, `\"64KiB\"`, `\"10MiB\"` or `\"1GiB\"`. Relative paths start at the file's folder. A mistake is told with its line and what to
do about it, and nothing is changed.
";

/// A schema and the definitions it refers to.
struct Schemas {
    root: Value,
}

impl Schemas {
    /// What a schema is once references are followed.
    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let reference = schema.get("$ref").or_else(|| schema.pointer("/anyOf/0/$ref"));
        match reference.and_then(Value::as_str) {
            Some(reference) => &self.root["$defs"][reference.trim_start_matches("#/$defs/")],
            None => schema,
        }
    }

    /// Everything about one table: its options, then the tables in it.
    fn table(&self, out: &mut String, path: &str, schema: &Value, defaults: &Value) {
        let mut tables = Vec::new();
        // By name, whether or not a dependency has serde_json keep the order of keys.
        let mut options: Vec<_> = schema["properties"].as_object().unwrap().iter().collect();
        options.sort_by_key(|(name, _)| *name);
        for (name, option) in options {
            let resolved = self.resolve(option);
            let default = &defaults[name];
            if resolved.get("properties").is_some() {
                tables.push((path_to(path, name), option, default.clone()));
                continue;
            }
            write!(out, "\n### `{name}`\n\n{}", description(option)).unwrap();
            choices(out, resolved);
            match default {
                default if default.is_null() || is_required(option) => out.push('\n'),
                default => writeln!(out, " Default: `{}`.", toml(default)).unwrap(),
            }
            if let Some(entry) = option.get("items").map(|items| self.resolve(items))
                && entry.get("properties").is_some()
            {
                tables.push((format!("[{}]", path_to(path, name)), option, entry_defaults(name)));
            }
        }
        for (path, option, defaults) in tables {
            let items = option.get("items").unwrap_or(option);
            let resolved = self.resolve(items);
            let about =
                if option.get("items").is_some() { description(resolved) } else { description(option) };
            write!(out, "\n## `[{path}]`\n\n{about}\n").unwrap();
            self.table(out, path.trim_matches(['[', ']']), resolved, &defaults);
        }
    }
}

/// The words an option may be.
fn choices(out: &mut String, schema: &Value) {
    let choices = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    for choice in choices.filter(|choice| choice.get("const").is_some()) {
        write!(out, " `{}`: {}", toml(&choice["const"]), lower_first(&description(choice))).unwrap();
    }
}

/// What holds for the options of an entry of `listen`, `servers` or `certificates` that only gives what it must.
fn entry_defaults(name: &str) -> Value {
    let address = SocketAddr::from(([0, 0, 0, 0], 0));
    let mut defaults = match name {
        "listen" => serde_json::to_value(Listen::on(address)).unwrap(),
        "servers" => serde_json::to_value(Server::new("", address)).unwrap(),
        _ => json!({}),
    };
    for required in ["address", "name"] {
        defaults.as_object_mut().unwrap().remove(required);
    }
    defaults
}

fn path_to(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Its paragraphs as one.
fn description(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_else(|| panic!("no documentation: {schema}"));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_required(option: &Value) -> bool {
    description(option).contains("Required")
}

fn lower_first(text: &str) -> String {
    text[..1].to_lowercase() + &text[1..]
}

fn toml(value: &Value) -> String {
    match value {
        Value::Array(values) => {
            let is_address_alone = |entry: &Map<String, Value>| entry.contains_key("address");
            let short = |entry: &Value| match entry.as_object() {
                Some(entry) if is_address_alone(entry) => entry["address"].to_string(),
                _ => toml(entry),
            };
            format!("[{}]", values.iter().map(short).collect::<Vec<_>>().join(", "))
        }
        value => value.to_string(),
    }
}

#[test]
fn the_reference_says_what_the_options_say() {
    let schemas = Schemas { root: schemars::schema_for!(Config).to_value() };
    let mut text = START.to_owned();
    schemas.table(&mut text, "", &schemas.root, &serde_json::to_value(Config::default()).unwrap());
    expect_file!["../../../../docs/guide/balancer-options.md"].assert_eq(&text);
}

#[test]
fn the_guides_examples_are_valid() {
    let guide = include_str!("../../../../docs/guide/balancer.md");
    let examples: Vec<&str> =
        guide.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 2, "the guide has examples");
    for example in examples {
        // A part of a file is shown for its own sake: it is valid beside the servers it leaves out.
        let whole = if example.contains("servers") {
            example.to_owned()
        } else {
            format!("servers = ['127.0.0.1:1']\n{example}")
        };
        Config::parse(&whole, Path::new("docs/guide/balancer.md"))
            .unwrap_or_else(|problems| panic!("{example}\n{problems}"));
    }
}
