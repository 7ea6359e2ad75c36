//! Compares one value with a rule of the JSON Schema, and says in words which values the rule allows.

use serde_json::Value as Json;
use toml::de::DeValue;

use super::suggestion::nearest;
use crate::format::Format;

/// Why a value of the right type is still refused.
pub(super) struct Refusal {
    pub(super) message: String,
    pub(super) label: &'static str,
    pub(super) hint: String,
}

/// Whether the value is of the kind the rule is about.
pub(super) fn same_kind(rule: &Json, value: &DeValue<'_>) -> bool {
    match value {
        DeValue::String(_) => kind(rule) == "string",
        DeValue::Integer(_) => matches!(kind(rule), "integer" | "number"),
        DeValue::Float(_) => kind(rule) == "number",
        DeValue::Boolean(_) => kind(rule) == "boolean",
        DeValue::Array(_) => kind(rule) == "array",
        DeValue::Table(_) => kind(rule) == "object",
        DeValue::Datetime(_) => false,
    }
}

/// A choice is one of several texts.
fn kind(rule: &Json) -> &str {
    if rule["oneOf"].is_array() { "string" } else { rule["type"].as_str().unwrap_or_default() }
}

/// The types that the rule allows.
pub(super) fn describe(rule: &Json) -> String {
    if let Some(forms) = rule["anyOf"].as_array() {
        return forms.iter().map(describe).collect::<Vec<_>>().join(" or ");
    }
    match kind(rule) {
        "string" => "a string".to_owned(),
        "integer" => "an integer".to_owned(),
        "number" => "a number".to_owned(),
        "boolean" => "true or false".to_owned(),
        "array" if kind(&rule["items"]) == "object" => "a list of tables".to_owned(),
        "array" => "a list of strings".to_owned(),
        _ => "a table".to_owned(),
    }
}

/// A TOML type with its article.
pub(super) fn article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// How to write the value that was probably meant.
pub(super) fn repair(rule: &Json, path: &str, value: &DeValue<'_>) -> Option<String> {
    match (kind(rule), value) {
        ("array", DeValue::String(text)) if kind(&rule["items"]) == "string" => {
            Some(format!("write [{text:?}]"))
        }
        ("array", DeValue::Table(_)) if path != "machine" => Some("put it in brackets: [{ … }]".to_owned()),
        ("array", DeValue::Table(_)) => Some("write the header in double brackets: [[machine]]".to_owned()),
        ("string", DeValue::Integer(_)) if let Some(format) = Format::of(rule) => {
            Some(format.hint.to_owned())
        }
        ("string", DeValue::Integer(number)) => Some(format!("write \"{number}\"")),
        ("string", DeValue::Boolean(on)) => {
            let word = if *on { "on" } else { "off" };
            choices(rule).any(|choice| choice == word).then(|| format!("write {word:?}"))
        }
        ("integer" | "boolean", DeValue::String(text)) => Some(format!("write {text} without quotes"))
            .filter(|_| text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok()),
        _ => None,
    }
}

/// The texts that a rule allows.
fn choices(rule: &Json) -> impl Iterator<Item = &str> {
    rule["oneOf"].as_array().into_iter().flatten().filter_map(|choice| choice["const"].as_str())
}

/// Whether a text or number of the right type is outside what the rule allows.
pub(super) fn refusal(rule: &Json, value: &DeValue<'_>) -> Option<Refusal> {
    match value {
        DeValue::String(text) => {
            if let Some(format) = Format::of(rule) {
                return match_format(format, rule, text);
            }
            rule["oneOf"].as_array()?;
            let choices: Vec<&str> = choices(rule).collect();
            (!choices.contains(&text.as_ref())).then(|| Refusal {
                message: format!("can't be {text:?}"),
                label: "not one of the choices",
                hint: match nearest(text, choices.iter().copied()) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("choose one of {}", choices.join(", ")),
                },
            })
        }
        DeValue::Integer(number) => {
            let (least, most) = (rule["minimum"].as_i64(), rule["maximum"].as_i64());
            let number = i64::from_str_radix(number.as_str(), number.radix()).ok();
            let inside = number.is_some_and(|number| {
                least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most)
            });
            (!inside).then(|| Refusal {
                message: "is out of range".to_owned(),
                label: "out of range",
                hint: match (least, most) {
                    (Some(least), Some(most)) if most < i64::from(u32::MAX) => {
                        format!("from {least} to {most}")
                    }
                    (Some(least), _) => format!("at least {least}"),
                    (None, Some(most)) => format!("at most {most}"),
                    (None, None) => "write an integer of at most 64 bits".to_owned(),
                },
            })
        }
        _ => None,
    }
}

/// Whether a string does not have its format, or is an amount out of the rule's range.
fn match_format(format: &Format, rule: &Json, text: &str) -> Option<Refusal> {
    if !format.is(text) {
        return Some(Refusal {
            message: format!("can't be {text:?}"),
            label: format.label,
            hint: format.hint.to_owned(),
        });
    }
    let (least, most) = (rule["x-minimum"].as_str()?, rule["x-maximum"].as_str()?);
    let amount = format.amount(text)?;
    let inside = format.amount(least)? <= amount && amount <= format.amount(most)?;
    (!inside).then(|| Refusal {
        message: "is out of range".to_owned(),
        label: "out of range",
        hint: format!("from {least} to {most}"),
    })
}

/// Whether a list has fewer items than its rule allows.
pub(super) fn too_few(form: &Json, rule: &Json, length: usize) -> Option<Refusal> {
    let least = form["minItems"].as_u64().or_else(|| rule["minItems"].as_u64())?;
    (length < least as usize).then(|| Refusal {
        message: "is empty".to_owned(),
        label: "empty",
        hint: match rule["examples"].get(0) {
            Some(example) => format!("for example: {example}"),
            None => format!("at least {least}"),
        },
    })
}
