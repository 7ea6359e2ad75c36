//! The JSON Schema of `tercet.toml`.

use schemars::generate::SchemaSettings;
use serde_json::Value as Json;

use crate::file::File;

/// The JSON Schema (draft 2020-12) that editors complete and check by, and that this crate reads by.
pub fn json_schema() -> Json {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<File>().to_value();
    drop_null(&mut schema);
    schema["title"] = "tercet.toml".into();
    schema
}

/// An absent key is the only way TOML has to say null: takes that form out of every rule.
fn drop_null(rule: &mut Json) {
    match rule {
        Json::Object(map) => {
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
            if map.get("default").is_some_and(Json::is_null) {
                map.remove("default");
            }
            // Which Rust integer holds it is no concern of an editor, but its bounds are.
            if map.get("format").is_some_and(|format| format == "uint32") {
                map.entry("maximum").or_insert(u32::MAX.into());
            }
            map.values_mut().for_each(drop_null);
        }
        Json::Array(list) => list.iter_mut().for_each(drop_null),
        _ => {}
    }
}
