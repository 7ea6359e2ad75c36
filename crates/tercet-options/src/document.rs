//! Reads a text by the rules of a schema and reports every syntax error, unknown key, wrong type and value out of range.
//!
//! The schema is made from the types that the text is read into, so there is one list of keys and types. A wrong value is
//! taken out of the document and the rest is still read, so that contradictions in it are reported too.

mod expected;
pub mod flat;
mod secret;
mod suggestion;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub(crate) use self::suggestion::nearest;
use crate::diagnostic::{Added, Mistakes};
use crate::format::Format;
use crate::schema::is_set_by_tercet;

/// Reads the text of the file called `name` by the rules of `schema`. There is no value when the text is not TOML.
pub fn read<T: DeserializeOwned>(text: &str, name: &str, schema: &Json) -> (Option<T>, Mistakes, Spans) {
    let (mut document, errors) = DeTable::parse_recoverable(text);
    let mut hidden = Vec::new();
    secret::find(schema, document.get_ref(), &mut hidden);
    secret::find_by_line(schema, text, !errors.is_empty(), &mut hidden);
    let mut mistakes = Mistakes::new(name, text, &hidden);
    let mut spans = Spans::default();
    for error in &errors {
        mistakes.add(error.span().unwrap_or_default(), format!("not TOML: {}", error.message()), "here");
    }
    if !errors.is_empty() {
        return (None, mistakes, spans);
    }
    spans.add_table("", document.get_ref());
    Checker { mistakes: &mut mistakes, hidden: &hidden }.table(schema, "", document.get_mut(), None);
    let value = T::deserialize(toml::de::Deserializer::from(document))
        .map_err(|error| {
            match error.span() {
                Some(span) => mistakes.add(span, error.message(), "here"),
                None => mistakes.add_without_position(error.message()),
            };
        })
        .ok();
    (value, mistakes, spans)
}

/// The position of every value of a document, by its path: `limits.head`, `servers[1].name`.
#[derive(Clone, Debug, Default)]
pub struct Spans(BTreeMap<String, Range<usize>>);

impl Spans {
    fn add_table(&mut self, path: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            self.add(join(path, key.get_ref()), value);
        }
    }

    fn add(&mut self, path: String, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(table) => self.add_table(&path, table),
            DeValue::Array(array) => {
                let items = array.iter().enumerate();
                items.for_each(|(index, item)| self.add(format!("{path}[{index}]"), item));
            }
            _ => {}
        }
        self.insert(path, value.span());
    }

    /// Adds the position of the value at a path.
    pub fn insert(&mut self, path: String, span: Range<usize>) {
        self.0.insert(path, span);
    }

    /// The position of the value, or of the nearest table around it that is written.
    fn nearest(&self, mut path: &str) -> Option<Range<usize>> {
        loop {
            if let Some(span) = self.0.get(path) {
                return Some(span.clone());
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

/// A table of options in a document, to report contradictions between them at their positions.
#[derive(Debug)]
pub struct Section<'a> {
    /// The mistakes of the document.
    pub mistakes: &'a mut Mistakes,
    /// The positions in it.
    pub spans: &'a Spans,
    /// The table's path; empty for the whole document.
    pub path: &'a str,
}

impl Section<'_> {
    /// Whether an option is written, also with a wrong value.
    pub fn is_written(&self, option: &str) -> bool {
        self.spans.0.contains_key(&join(self.path, option))
    }

    /// Adds a mistake at an option, given by its path in this table: `{path of the option} {message}`.
    pub fn mistake(&mut self, option: &str, message: &str, label: &str) -> Added<'_> {
        let path = join(self.path, option);
        let message = format!("{path} {message}");
        match self.spans.nearest(&path) {
            Some(span) => self.mistakes.add(span, message, label),
            None => self.mistakes.add_without_position(message),
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

struct Checker<'a> {
    mistakes: &'a mut Mistakes,
    /// The positions of secrets, which no hint may repeat.
    hidden: &'a [Range<usize>],
}

impl Checker<'_> {
    /// Checks a table's entries and keeps the good ones. False when the table has to go: a required key is missing or has a
    /// wrong value. So it is for any wrong value of a machine: nothing can be said about the tiers on machines before it is
    /// corrected.
    fn table(
        &mut self,
        schema: &Json,
        path: &str,
        table: &mut DeTable<'_>,
        span: Option<&Range<usize>>,
    ) -> bool {
        let mut whole = true;
        let mut wrong = Vec::new();
        let required = |name: &str| {
            let mut names = schema["required"].as_array().into_iter().flatten();
            path == "machine" || names.any(|required| required == name)
        };
        for (key, value) in table.iter_mut() {
            let name = key.get_ref();
            // Beside keys, a name has a table: any other value is that of a key that does not exist.
            let is_name =
                |rule: &&Json| schema["properties"].is_null() || expected::same_kind(rule, value.get_ref());
            let open = schema.get("additionalProperties").filter(|rule| rule.is_object()).filter(is_name);
            let known = schema["properties"].get(name.as_ref()).filter(|rule| !is_set_by_tercet(rule));
            let misnamed = Format::of(&schema["propertyNames"]).filter(|format| !format.is(name));
            let good = if let (None, Some(_), Some(format)) = (known, open, misnamed) {
                let message = format!("{path} can't be named {name:?}");
                self.mistakes.add(key.span(), message, format.label).hint(format.hint);
                false
            } else if let Some(rule) = known.or(open) {
                let good = self.value(rule, &join(path, name), value);
                whole &= good || !required(name);
                good
            } else {
                unknown(self.mistakes, schema, path, key.get_ref(), key.span());
                false
            };
            if !good {
                wrong.push(key.clone());
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
            let rule = &schema["properties"][name];
            if table.get(name).is_none() && !is_set_by_tercet(rule) {
                self.missing(name, rule, path, span.cloned());
                whole = false;
            }
        }
        for key in &wrong {
            table.remove(key);
        }
        whole
    }

    fn missing(&mut self, name: &str, rule: &Json, path: &str, span: Option<Range<usize>>) {
        let message = format!("missing key {name} {}", place(path));
        let added = match span {
            Some(span) => self.mistakes.add(span, message, format!("no {name}")),
            None => self.mistakes.add_without_position(message),
        };
        if let Some(example) = rule["examples"].get(0) {
            added.hint(format!("for example: {name} = {example}"));
        }
    }

    /// Checks a value; false when it has to go.
    fn value(&mut self, rule: &Json, path: &str, value: &mut Spanned<DeValue<'_>>) -> bool {
        let span = value.span();
        let forms: &[Json] = rule["anyOf"].as_array().map_or(std::slice::from_ref(rule), Vec::as_slice);
        let form = forms.iter().find(|form| expected::same_kind(form, value.get_ref()));
        let Some(form) = form else {
            let found = value.get_ref().type_str();
            let message =
                format!("{path} must be {}, not {}", expected::describe(rule), expected::article(found));
            let added =
                self.mistakes.add(span.clone(), message, format!("this is {}", expected::article(found)));
            if !self.hidden.contains(&span)
                && let Some(hint) = expected::repair(rule, path, value.get_ref())
            {
                added.hint(hint);
            }
            return false;
        };
        let refusal = match value.get_mut() {
            DeValue::Table(table) => return self.table(form, path, table, Some(&span)),
            DeValue::Array(array) => {
                let mut good = true;
                for item in array.iter_mut() {
                    good &= self.value(&form["items"], path, item);
                }
                if !good {
                    return false;
                }
                expected::too_few(form, rule, array.len())
            }
            scalar => expected::refusal(form, scalar),
        };
        let Some(refusal) = refusal else { return true };
        self.mistakes.add(span, format!("{path} {}", refusal.message), refusal.label).hint(refusal.hint);
        false
    }
}

/// The name of a table for messages.
fn place(path: &str) -> String {
    match path {
        "" => "at the top of the file".to_owned(),
        path => format!("in [{path}]"),
    }
}

/// Reports a key that is not one of the table's.
fn unknown(mistakes: &mut Mistakes, schema: &Json, path: &str, name: &str, span: Range<usize>) {
    let place = place(path);
    let properties = || schema["properties"].as_object().into_iter().flatten();
    if let Some(instead) = schema["properties"][name]["x-set-by-tercet"].as_str() {
        let message = format!("{name} is set by tercet and can't be set {place}");
        mistakes.add(span, message, "set by tercet").hint(instead);
        return;
    }
    let keys = properties().filter(|(_, rule)| !is_set_by_tercet(rule)).map(|(key, _)| key.as_str());
    // serde_json keeps their order or not, as its other users want it.
    let keys: BTreeSet<&str> = keys.collect();
    let hint = match nearest(name, keys.iter().copied()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("the keys {place} are {}", keys.into_iter().collect::<Vec<_>>().join(", ")),
    };
    mistakes.add(span, format!("unknown key {name} {place}"), "unknown").hint(hint);
}
