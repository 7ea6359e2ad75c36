//! PostgREST's configuration files: TOML with options at the top only, each of which may be written as a string.
//!
//! The same options are set in the environment and in the database, where every value is a text. So a value is a text here
//! too, and the schema says which type the text is to have.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};

use super::{expected, secret, unknown};
use crate::diagnostic::Mistakes;

/// An option of a file.
#[derive(Clone, Debug)]
pub struct Written {
    /// Its value as text; a list is joined by commas.
    pub text: String,
    /// The position of the value.
    pub span: Range<usize>,
    key: Range<usize>,
}

/// Reads the text of a file called `name` into its options by name; a table in it is a name with dots. There are none when
/// the text is not TOML.
pub fn read(text: &str, name: &str, schema: &Json) -> (BTreeMap<String, Written>, Mistakes) {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut hidden = Vec::new();
    secret::find(schema, document.get_ref(), &mut hidden);
    secret::find_by_line(schema, text, !errors.is_empty(), &mut hidden);
    let mut mistakes = Mistakes::new(name, text, &hidden);
    for error in &errors {
        mistakes.add(error.span().unwrap_or_default(), format!("not TOML: {}", error.message()), "here");
    }
    let mut options = BTreeMap::new();
    if errors.is_empty() {
        flatten("", document.get_ref(), &mut options);
    }
    (options, mistakes)
}

fn flatten(prefix: &str, table: &DeTable<'_>, options: &mut BTreeMap<String, Written>) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        if let DeValue::Table(table) = value.get_ref() {
            flatten(&format!("{name}."), table, options);
        } else {
            let text = text_of(value.get_ref());
            options.insert(name, Written { text, span: value.span(), key: key.span() });
        }
    }
}

fn text_of(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number.to_string(),
            Err(_) => number.as_str().to_owned(),
        },
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(boolean) => boolean.to_string(),
        DeValue::Datetime(datetime) => datetime.to_string(),
        DeValue::Array(items) => {
            items.iter().map(|item| text_of(item.get_ref())).collect::<Vec<_>>().join(",")
        }
        DeValue::Table(_) => String::new(),
    }
}

/// Reports the options that the schema does not have, except those whose names start with `open`.
pub fn check_names(options: &BTreeMap<String, Written>, schema: &Json, open: &str, mistakes: &mut Mistakes) {
    let rules = schema["properties"].as_object();
    let known: Vec<&str> =
        rules.into_iter().flatten().flat_map(|(name, rule)| aliases(rule).chain([name.as_str()])).collect();
    for (name, written) in options.iter().filter(|(name, _)| !name.starts_with(open)) {
        if !known.contains(&name.as_str()) {
            unknown(mistakes, schema, "", name, written.key.clone());
        }
    }
}

/// The older names of an option.
pub fn aliases(rule: &Json) -> impl Iterator<Item = &str> {
    rule["x-aliases"].as_array().into_iter().flatten().filter_map(Json::as_str)
}

/// Whether an empty text is a value of the option. For other options it is the same as no value.
pub fn may_be_empty(rule: &Json) -> bool {
    rule["anyOf"].is_array()
}

/// Why a text is not a value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The message, to follow the option's name.
    pub message: String,
    /// What the user can do about it.
    pub hint: String,
}

/// The value that a text means by the option's rule. Ranges are not checked here: PostgREST's are those of its types.
///
/// # Errors
/// The text does not have the type.
pub fn value(rule: &Json, text: &str) -> Result<toml::Value, Refusal> {
    if let Some(word) = rule["x-words"][text].as_bool() {
        return Ok(word.into());
    }
    let wrong = || Refusal {
        message: format!("can't be {text:?}"),
        hint: format!("write {}", expected::describe(rule)),
    };
    match rule["type"].as_str() {
        Some("boolean") => match text.trim().trim_matches('"').to_ascii_lowercase().as_str() {
            "true" => Ok(true.into()),
            "false" => Ok(false.into()),
            number => number.parse::<i64>().map(|number| (number > 0).into()).map_err(|_| wrong()),
        },
        Some("integer") => text.trim().parse::<i64>().map(toml::Value::from).map_err(|_| wrong()),
        _ => match expected::refusal(rule, &DeValue::String(text.into())) {
            Some(refusal) => Err(Refusal { message: refusal.message, hint: refusal.hint }),
            None => Ok(text.into()),
        },
    }
}
