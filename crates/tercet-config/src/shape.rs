//! Reads a text into a [`File`], reporting every syntax error, unknown key and wrong type on the way.
//!
//! The rules are the JSON Schema that [`File`]'s types make, so there is one list of keys and types. What is
//! wrong is taken out of the document, and the rest is still read: its contradictions are reported too.

mod expected;
mod secret;
mod suggestion;

use std::ops::Range;

use serde::Deserialize as _;
use serde_json::Value as Json;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use self::suggestion::nearest;
use crate::diagnostic::Mistakes;
use crate::file::{File, RESERVED};
use crate::reference::json_schema;

/// Reads the text called `name`; there is no file when the text is not TOML.
pub(crate) fn read(text: &str, name: &str) -> (Option<File>, Mistakes) {
    let (mut document, errors) = DeTable::parse_recoverable(text);
    let schema = json_schema();
    let mut hidden = Vec::new();
    secret::find(&schema, document.get_ref(), &mut hidden);
    secret::find_by_line(&schema, text, !errors.is_empty(), &mut hidden);
    let mut mistakes = Mistakes::new(name, text, &hidden);
    for error in &errors {
        mistakes.add(error.span().unwrap_or_default(), format!("not TOML: {}", error.message()), "here");
    }
    if !errors.is_empty() {
        return (None, mistakes);
    }
    Checker { mistakes: &mut mistakes, hidden: &hidden }.table(&schema, "", document.get_mut());
    let file = File::deserialize(toml::de::Deserializer::from(document))
        .map_err(|error| {
            mistakes.add(error.span().unwrap_or_default(), error.message(), "here");
        })
        .ok();
    (file, mistakes)
}

struct Checker<'a> {
    mistakes: &'a mut Mistakes,
    /// Where secrets stand, which no hint may repeat.
    hidden: &'a [Range<usize>],
}

impl Checker<'_> {
    /// Checks a table's entries and keeps the good ones; false when one had a wrong value.
    fn table(&mut self, schema: &Json, path: &str, table: &mut DeTable<'_>) -> bool {
        let mut whole = true;
        let mut wrong = Vec::new();
        for (key, value) in table.iter_mut() {
            let name = key.get_ref();
            let here = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            let open = || schema.get("additionalProperties").filter(|rule| rule.is_object());
            let good = if let Some(rule) = schema["properties"].get(name.as_ref()).or_else(open) {
                let good = self.value(rule, &here, value);
                whole &= good;
                good
            } else {
                self.unknown(schema, path, key);
                false
            };
            if !good {
                wrong.push(key.clone());
            }
        }
        for key in &wrong {
            table.remove(key);
        }
        whole
    }

    fn unknown(&mut self, schema: &Json, path: &str, key: &Spanned<std::borrow::Cow<'_, str>>) {
        let name = key.get_ref();
        if path == "api"
            && let Some((_, instead)) = RESERVED.iter().find(|(reserved, _)| reserved == name)
        {
            let message = format!("{name} is set by tercet and can't be set in [api]");
            self.mistakes.add(key.span(), message, "set by tercet").hint(*instead);
            return;
        }
        let place = match path {
            "" => "at the top of the file".to_owned(),
            path => format!("in [{path}]"),
        };
        let keys = schema["properties"].as_object().into_iter().flat_map(serde_json::Map::keys);
        let hint = match nearest(name, keys.clone().map(String::as_str)) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("the keys {place} are {}", keys.cloned().collect::<Vec<_>>().join(", ")),
        };
        self.mistakes.add(key.span(), format!("unknown key {name} {place}"), "unknown").hint(hint);
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
        match value.get_mut() {
            DeValue::Table(table) => {
                let whole = self.table(form, path, table);
                // A machine with a wrong value goes, and the list of machines with it: nothing can be said
                // about who carries what before it is mended.
                whole || path != "machine"
            }
            DeValue::Array(array) => {
                let mut good = true;
                for item in array.iter_mut() {
                    good &= self.value(&form["items"], path, item);
                }
                good
            }
            scalar => match expected::refusal(form, scalar) {
                Some(refusal) => {
                    let message = format!("{path} {}", refusal.message);
                    self.mistakes.add(span, message, refusal.label).hint(refusal.hint);
                    false
                }
                None => true,
            },
        }
    }
}
