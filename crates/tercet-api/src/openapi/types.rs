//! PostgreSQL's types as JSON Schema.
//!
//! Types with an unknown JSON form (composite types, those of extensions) become `{}`.

use serde_json::{Map, Value, json};

use crate::schema::{Column, QualifiedName};

/// A JSON Schema.
pub(super) type Schema = Map<String, Value>;

/// The JSON types of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Boolean,
    Integer,
    Number,
    Text,
    Array,
    /// Any JSON.
    Any,
}

impl Kind {
    /// The name in JSON Schema.
    fn name(self) -> Option<&'static str> {
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

/// JSON type and format of a type, by the name from `format_type` or `pg_type.typname`.
fn kind(data_type: &str) -> (Kind, Option<&'static str>) {
    match data_type {
        "boolean" | "bool" => (Kind::Boolean, None),
        "smallint" | "int2" => (Kind::Integer, Some("int16")),
        "integer" | "int4" => (Kind::Integer, Some("int32")),
        "bigint" | "int8" => (Kind::Integer, Some("int64")),
        "real" | "float4" => (Kind::Number, Some("float")),
        "double precision" | "float8" => (Kind::Number, Some("double")),
        "numeric" => (Kind::Number, None),
        // formatted like a number, but a string in PostgreSQL's JSON
        "oid" => (Kind::Text, Some("oid")),
        "date" => (Kind::Text, Some("date")),
        "timestamp with time zone" | "timestamptz" => (Kind::Text, Some("date-time")),
        "uuid" => (Kind::Text, Some("uuid")),
        "text" | "character varying" | "character" | "name" | "varchar" | "bpchar" | "\"char\"" => {
            (Kind::Text, None)
        }
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
        "int4range" | "int8range" | "numrange" | "daterange" | "tsrange" | "tstzrange" | "int4multirange"
        | "int8multirange" | "nummultirange" | "datemultirange" | "tsmultirange" | "tstzmultirange" => {
            (Kind::Text, Some("range"))
        }
        other if element(other).is_some() => (Kind::Array, None),
        _ => (Kind::Any, None),
    }
}

/// The element type of an array type.
fn element(data_type: &str) -> Option<&str> {
    // The catalogue names PostgreSQL's own array types `_int4`; a user's type may have such a name too.
    let catalogued = |name: &&str| !name.starts_with('_') && kind(name).0 != Kind::Any;
    data_type.strip_suffix("[]").or_else(|| data_type.strip_prefix('_').filter(catalogued))
}

/// The schema of a type's values.
pub(super) fn schema(data_type: &str) -> Schema {
    let (kind, format) = kind(data_type);
    let mut schema = Map::new();
    if let Some(name) = kind.name() {
        schema.insert("type".into(), name.into());
    }
    if let Some(format) = format {
        schema.insert("format".into(), format.into());
    }
    let bounds = match format {
        Some("int16") => Some((i64::from(i16::MIN), i64::from(i16::MAX))),
        Some("int32") => Some((i64::from(i32::MIN), i64::from(i32::MAX))),
        Some("int64") => Some((i64::MIN, i64::MAX)),
        _ => None,
    };
    if let Some((least, greatest)) = bounds {
        schema.insert("minimum".into(), least.into());
        schema.insert("maximum".into(), greatest.into());
    }
    if let (Kind::Array, Some(element)) = (kind, element(data_type)) {
        // PostgreSQL does not enforce the declared number of dimensions.
        let mut items = nullable(self::schema(element));
        if let Some(Value::Array(kinds)) = items.get_mut("type") {
            kinds.insert(1, "array".into());
        }
        schema.insert("items".into(), items.into());
    }
    schema
}

/// The schema, or null.
pub(super) fn nullable(mut schema: Schema) -> Schema {
    match schema.get_mut("type") {
        Some(Value::Array(kinds)) if !kinds.contains(&"null".into()) => kinds.push("null".into()),
        Some(Value::String(kind)) => {
            let kind = std::mem::take(kind);
            schema.insert("type".into(), json!([kind, "null"]));
        }
        _ => {}
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    schema
}

/// The schema of a type by its qualified name; only PostgreSQL's own types are known.
pub(super) fn of_type(name: &QualifiedName) -> Schema {
    if &*name.schema == "pg_catalog" { schema(&name.name) } else { Map::new() }
}

/// The schema of a column's values, without a description.
pub(super) fn of_column(column: &Column, may_be_null: bool) -> Schema {
    let mut schema = if column.enum_labels.is_empty() {
        schema(&column.data_type)
    } else {
        let labels = column.enum_labels.iter().map(|label| Value::from(&**label));
        Map::from_iter([("type".into(), "string".into()), ("enum".into(), labels.collect())])
    };
    if may_be_null {
        schema = nullable(schema);
    }
    if let (Some(length), (Kind::Text, None)) = (column.max_length, kind(&column.data_type)) {
        schema.insert("maxLength".into(), length.into());
    }
    schema
}

/// The column's default if it is a constant: `42`, `true`, `'text'::text`.
pub(super) fn constant(column: &Column) -> Option<Value> {
    let default = column.default.as_deref()?;
    let (kind, format) = kind(&column.data_type);
    // PostgreSQL accepts more notations than the JSON Schema formats allow
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(data_type: &str, expected: &Value) {
        assert_eq!(Value::from(schema(data_type)), *expected, "{data_type}");
    }

    #[test]
    fn maps_types_to_their_json() {
        check("oid", &json!({ "type": "string", "format": "oid" }));
        check("int4range", &json!({ "type": "string", "format": "range" }));
        // user-defined types
        check("shop.orange", &json!({}));
        check("_mine", &json!({}));
    }

    #[test]
    fn arrays_allow_dimensions_and_nulls() {
        let items = json!({
            "type": ["integer", "array", "null"], "format": "int32", "minimum": i32::MIN, "maximum": i32::MAX,
        });
        check("integer[]", &json!({ "type": "array", "items": items }));
        check("_int4", &json!({ "type": "array", "items": items }));
        check("shop.colour[]", &json!({ "type": "array", "items": {} }));
        let array = schema("integer[]");
        let validator = jsonschema::validator_for(&array.into()).unwrap();
        for value in [json!([]), json!([1, null]), json!([[1, 2], [3, null]]), json!([[[1]]])] {
            assert!(validator.is_valid(&value), "{value}");
        }
        assert!(!validator.is_valid(&json!(["a"])));
    }
}
