//! A list of names, or one string with commas between them.

use std::borrow::Cow;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A list of names: `["public", "extensions"]`, or PostgREST's `"public, extensions"`. The empty string is the empty list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List(Vec<String>);

impl List {
    /// The list of these names.
    pub fn of(names: &[&str]) -> Self {
        Self(names.iter().map(ToString::to_string).collect())
    }
}

impl Deref for List {
    type Target = Vec<String>;

    fn deref(&self) -> &Vec<String> {
        &self.0
    }
}

impl Serialize for List {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.join(","))
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Joined(String),
            List(Vec<String>),
        }
        let joined = match Written::deserialize(deserializer)? {
            Written::Joined(names) => names,
            Written::List(names) => names.join(","),
        };
        let names = joined.split(',').map(|name| name.trim().to_owned());
        Ok(Self(if joined.is_empty() { Vec::new() } else { names.collect() }))
    }
}

impl JsonSchema for List {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "List".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
    }
}
