//! The rules of a file: the JSON Schema (draft 2020-12) that the declarations make.
//!
//! Beside the keywords of JSON Schema a rule may have these:
//!
//! - `x-minimum`, `x-maximum`: the range of a string with a unit.
//! - `x-set-by-tercet`: the option is one of the tier's own file only, since tercet sets it; the text is the hint for a user
//!   who writes it into `tercet.toml`.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value as Json;

/// The rules of `tercet.toml`: a table of type `T`, some of whose options are set by tercet.
pub fn of<T: JsonSchema>() -> Json {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    drop_null(&mut schema);
    schema
}

/// The rules of a tier's own file: all options of `T` may be written.
pub fn of_tier<T: JsonSchema>() -> Json {
    let mut schema = of::<T>();
    each_rule(&mut schema, &mut |rule| drop(rule.remove("x-set-by-tercet")));
    schema
}

/// The schema for editors: without the options that tercet sets, and without this project's own keywords.
pub fn for_editors(mut schema: Json) -> Json {
    each_rule(&mut schema, &mut |rule| {
        if let Some(Json::Object(properties)) = rule.get_mut("properties") {
            properties.retain(|_, rule| !is_set_by_tercet(rule));
            let names: Vec<String> = properties.keys().cloned().collect();
            if let Some(Json::Array(required)) = rule.get_mut("required") {
                required.retain(|name| names.iter().any(|kept| name == kept));
            }
        }
        if rule.get("required").is_some_and(|required| required.as_array().is_some_and(Vec::is_empty)) {
            rule.remove("required");
        }
        rule.retain(|keyword, _| !keyword.starts_with("x-"));
    });
    schema
}

/// Whether the rule is of an option that `tercet.toml` does not have.
pub(crate) fn is_set_by_tercet(rule: &Json) -> bool {
    rule["x-set-by-tercet"].is_string()
}

/// The options of a tier in a section of `tercet.toml`, as they were written; the rules are those of `T`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(transparent)]
pub struct OptionsOf<T> {
    /// The options by their names.
    pub written: toml::Table,
    #[serde(skip)]
    tier: std::marker::PhantomData<T>,
}

impl<T> Default for OptionsOf<T> {
    fn default() -> Self {
        Self { written: toml::Table::new(), tier: std::marker::PhantomData }
    }
}

impl<T: JsonSchema> JsonSchema for OptionsOf<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Calls `change` with every object of the schema.
fn each_rule(rule: &mut Json, change: &mut impl FnMut(&mut serde_json::Map<String, Json>)) {
    match rule {
        Json::Object(map) => {
            change(map);
            map.values_mut().for_each(|rule| each_rule(rule, change));
        }
        Json::Array(list) => list.iter_mut().for_each(|rule| each_rule(rule, change)),
        _ => {}
    }
}

/// Drops the forms of a rule that allow null, which TOML does not have: an option is left out instead.
fn drop_null(schema: &mut Json) {
    each_rule(schema, &mut |map| {
        if let Some(Json::Array(kinds)) = map.get_mut("type") {
            kinds.retain(|kind| kind != "null");
            if let [kind] = &kinds[..] {
                map["type"] = kind.clone();
            }
        }
        if let Some(Json::Array(forms)) = map.get_mut("anyOf") {
            forms.retain(|form| form["type"] != "null");
            if let [Json::Object(form)] = &mut forms[..] {
                let form = std::mem::take(form);
                map.remove("anyOf");
                for (key, value) in form {
                    map.entry(key).or_insert(value);
                }
            }
        }
        // The default of a table is that of each of its options.
        if map.get("default").is_some_and(|default| default.is_null() || default.is_object()) {
            map.remove("default");
        }
        // Its Rust type is of no use to an editor, but its bounds are.
        if map.get("format").is_some_and(|format| format == "uint32") {
            map.entry("maximum").or_insert(u32::MAX.into());
        }
    });
}
