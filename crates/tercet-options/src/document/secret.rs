//! Finds the secrets of a text, so that no message shows them.
//!
//! In a TOML document they are found by the rules of the schema; in comments, and in a text that is not TOML, line by line.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::schema::is_set_by_tercet;

/// Adds the positions of the values that must not be shown: those that are `writeOnly` in the schema, and those of unknown
/// keys, since the key may be a misspelt one of a secret. A text that names a file is not secret.
pub(super) fn find(schema: &Json, table: &DeTable<'_>, hidden: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        match schema["properties"].get(key.get_ref().as_ref()).or_else(|| tables_by_name(schema)) {
            Some(rule) if !is_set_by_tercet(rule) => look(rule, value, hidden),
            _ => hide(value, hidden),
        }
    }
}

/// The rule of the tables in a table whose keys are names of the user's own.
fn tables_by_name(rule: &Json) -> Option<&Json> {
    rule.get("additionalProperties").filter(|rule| rule["properties"].is_object())
}

fn look(rule: &Json, value: &Spanned<DeValue<'_>>, hidden: &mut Vec<Range<usize>>) {
    if rule["writeOnly"] == true {
        let names_file = |text: &str| rule["type"] != "object" && text.starts_with('@');
        match value.get_ref() {
            DeValue::String(text) if names_file(text) => {}
            _ => hide(value, hidden),
        }
        return;
    }
    let table = rule["anyOf"].as_array().into_iter().flatten().find(|form| form["properties"].is_object());
    let rule = table.unwrap_or(rule);
    match value.get_ref() {
        // Also where a list of tables should be and one is.
        DeValue::Table(inner) if rule["items"].is_object() => find(&rule["items"], inner, hidden),
        DeValue::Table(inner) => find(rule, inner, hidden),
        DeValue::Array(items) => items.iter().for_each(|item| look(&rule["items"], item, hidden)),
        // A key where its file should be named.
        DeValue::String(text) if PRIVATE_KEYS.iter().any(|it| text.to_ascii_uppercase().contains(it)) => {
            hidden.push(value.span());
        }
        _ => {}
    }
}

/// Texts that begin a private key: the first and last line of a PEM file (RFC 7468), age's identities.
const PRIVATE_KEYS: [&str; 2] = ["PRIVATE KEY-----", "AGE-SECRET-KEY-"];

/// Every scalar in it: a table's own span may be no more than its header.
fn hide(value: &Spanned<DeValue<'_>>, hidden: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(inner) => inner.values().for_each(|value| hide(value, hidden)),
        DeValue::Array(items) => items.iter().for_each(|item| hide(item, hidden)),
        _ => hidden.push(value.span()),
    }
}

/// Adds what may be a secret on the lines of `text`: what follows the name of one in a comment; and when the text is no
/// TOML (`broken`), also elsewhere, and the value of every key that the schema does not call harmless.
pub(super) fn find_by_line(schema: &Json, text: &str, broken: bool, hidden: &mut Vec<Range<usize>>) {
    let (mut secret, mut harmless) = (BTreeSet::from(OTHER_NAMES), BTreeSet::new());
    names(schema, &mut secret, &mut harmless);
    let mut start = 0;
    // Whether a value that may be secret goes on from the line before.
    let mut goes_on = false;
    for line in text.split_inclusive('\n') {
        let all = start..start + line.trim_end().len();
        start += line.len();
        // In a text that may be broken anywhere, what follows a secret may be more of it.
        let comment = line.trim_start().starts_with('#') && !goes_on;
        let begin = all.start;
        if let Some(key) =
            (comment || broken).then(|| line.to_ascii_uppercase().find("AGE-SECRET-KEY-")).flatten()
        {
            hidden.push(all.end.min(begin + key)..all.end);
        }
        // What follows a secret's name, whether or not an `=` stands between.
        let named = secret.iter().filter_map(|name| Some(line.find(name)? + name.len())).min();
        let value = line.split_once(['=', ':']).filter(|(key, _)| comment || !(goes_on && is_continued(key)));
        match (named, value) {
            (Some(named), _) if comment || broken => {
                hidden.push(begin + named..all.end);
                goes_on = !comment && !line.trim_start().starts_with('[');
            }
            (None, Some((key, _))) if broken && !comment => {
                let last = key.rsplit('.').next().unwrap_or(key).trim().trim_matches(['"', '\'']);
                goes_on = !harmless.contains(last);
                if goes_on {
                    hidden.push(begin + key.len() + 1..all.end);
                }
            }
            _ if goes_on => hidden.push(all),
            _ => {}
        }
    }
}

/// Usual names of secrets that are not keys of the file.
const OTHER_NAMES: [&str; 4] = ["secret", "password", "token", "db-uri"];

/// Whether the text before an `=` cannot be a key, so that the line belongs to a value that began above.
fn is_continued(key: &str) -> bool {
    !key.trim().chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// The names of the keys that are secret, and of those that are not and hold none.
fn names<'a>(schema: &'a Json, secret: &mut BTreeSet<&'a str>, harmless: &mut BTreeSet<&'a str>) {
    for (name, rule) in schema["properties"].as_object().into_iter().flatten() {
        if rule["writeOnly"] == true {
            secret.insert(name);
        } else if let Some(rule) = tables_by_name(rule) {
            names(rule, secret, harmless);
        } else if rule["properties"].is_object() || rule["items"]["properties"].is_object() {
            names(rule, secret, harmless);
            names(&rule["items"], secret, harmless);
        } else {
            harmless.insert(name);
        }
    }
}
