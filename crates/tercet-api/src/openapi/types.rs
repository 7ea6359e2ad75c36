//! PostgreSQL's types as JSON Schema: what a value of a type looks like in JSON.

use serde_json::{Map, Value, json};

use crate::schema::Column;

/// The kinds of JSON a value can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    Integer,
    Number,
    Text,
    Array,
    /// Any JSON.
    Any,
}

impl Kind {
    /// As JSON Schema names it.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Boolean => Some("boolean"),
            Self::Integer => Some("integer"),
            Self::Number => Some("number"),
            Self::Text => Some("string"),
            Self::Array => Some("array"),
            Self::Any => None,
        }
    }
}

/// Kind and format of a type, by the name `format_type` or `pg_type.typname` gives it.
fn kind(data_type: &str) -> (Kind, Option<&'static str>) {
    match data_type {
        "boolean" | "bool" => (Kind::Boolean, None),
        "smallint" | "int2" => (Kind::Integer, Some("int16")),
        "integer" | "int4" => (Kind::Integer, Some("int32")),
        "bigint" | "int8" => (Kind::Integer, Some("int64")),
        "oid" => (Kind::Integer, Some("uint32")),
        "real" | "float4" => (Kind::Number, Some("float")),
        "double precision" | "float8" => (Kind::Number, Some("double")),
        "numeric" => (Kind::Number, None),
        "date" => (Kind::Text, Some("date")),
        "timestamp with time zone" | "timestamptz" => (Kind::Text, Some("date-time")),
        "uuid" => (Kind::Text, Some("uuid")),
        "text" | "character varying" | "character" | "citext" | "name" | "varchar" | "bpchar"
        | "\"char\"" => (Kind::Text, None),
        "bit" | "bit varying" | "varbit" => (Kind::Text, Some("bits")),
        "bytea" => (Kind::Text, Some("bytea")),
        "inet" | "cidr" => (Kind::Text, Some("ip-network")),
        "interval" => (Kind::Text, Some("interval")),
        "macaddr" | "macaddr8" => (Kind::Text, Some("mac-address")),
        "money" => (Kind::Text, Some("money")),
        "time without time zone" | "time with time zone" | "time" | "timetz" => {
            (Kind::Text, Some("time-of-day"))
        }
        "timestamp without time zone" | "timestamp" => (Kind::Text, Some("date-time-local")),
        "tsquery" => (Kind::Text, Some("tsquery")),
        "tsvector" => (Kind::Text, Some("tsvector")),
        "xml" => (Kind::Text, Some("xml")),
        other if other.ends_with("range") => (Kind::Text, Some("range")),
        other if element(other).is_some() => (Kind::Array, None),
        // json, and what only the database knows: composite types, extensions
        _ => (Kind::Any, None),
    }
}

/// The type of an array's elements.
fn element(data_type: &str) -> Option<&str> {
    data_type.strip_suffix("[]").or_else(|| data_type.strip_prefix('_'))
}

/// The schema of a type's values.
pub(super) fn schema(data_type: &str) -> Map<String, Value> {
    let (kind, format) = kind(data_type);
    let mut schema = Map::new();
    if let Some(name) = kind.name() {
        schema.insert("type".into(), name.into());
    }
    if let Some(format) = format {
        schema.insert("format".into(), format.into());
    }
    if let (Kind::Array, Some(element)) = (kind, element(data_type)) {
        schema.insert("items".into(), self::schema(element).into());
    }
    schema
}

/// The schema of a column's values, without words about it.
pub(super) fn of_column(column: &Column) -> Map<String, Value> {
    let mut schema = if column.enum_labels.is_empty() {
        schema(&column.data_type)
    } else {
        let labels = column.enum_labels.iter().map(|label| Value::from(&**label));
        let labels = labels.chain(column.nullable.then_some(Value::Null));
        Map::from_iter([("type".into(), "string".into()), ("enum".into(), labels.collect())])
    };
    if column.nullable
        && let Some(name) = schema.get_mut("type")
    {
        *name = json!([name, "null"]);
    }
    if let (Some(length), (Kind::Text, None)) = (column.max_length, kind(&column.data_type)) {
        schema.insert("maxLength".into(), length.into());
    }
    if let Some(default) = constant(column) {
        schema.insert("default".into(), default);
    }
    schema
}

/// The default of a column, if it is a constant: `42`, `true`, `'text'::text`.
fn constant(column: &Column) -> Option<Value> {
    let default = column.default.as_deref()?;
    let (kind, format) = kind(&column.data_type);
    // PostgreSQL reads more ways of writing these than the formats allow
    if matches!(format, Some("date" | "date-time" | "uuid")) {
        return None;
    }
    let text = default.strip_prefix('\'').and_then(|rest| {
        let (text, cast) = rest.rsplit_once('\'')?;
        (cast.is_empty() || cast.starts_with("::")).then(|| text.replace("''", "'"))
    });
    match (text, kind) {
        (Some(text), Kind::Text) => Some(text.into()),
        (Some(text), Kind::Any) if !column.enum_labels.is_empty() => Some(text.into()),
        (Some(text), Kind::Boolean | Kind::Integer | Kind::Number | Kind::Any) => {
            serde_json::from_str(&text).ok()
        }
        (None, Kind::Boolean | Kind::Integer | Kind::Number) => serde_json::from_str(default).ok(),
        _ => None,
    }
}
