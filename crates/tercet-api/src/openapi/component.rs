//! Schema components of relations: a whole row, a selected row, a row to write.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::types::Schema;
use super::{Description, types};
use crate::schema::{Column, Link, Relation, RelationKind, Relationship};

/// The name of a component: letters, digits, `-` and `_`; any other character as its code point. A dot separates the
/// relation's name from a suffix, so that component names are unique.
pub(super) fn key(name: &str) -> String {
    name.chars().fold(String::new(), |mut key, c| {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') {
            key.push(c);
        } else {
            _ = write!(key, ".u{:04x}.", u32::from(c));
        }
        key
    })
}

/// A reference to a component.
pub(super) fn reference(kind: &str, key: &str) -> Value {
    json!({ "$ref": format!("#/components/{kind}/{key}") })
}

/// A reference to selected rows of a relation.
pub(super) fn selected(relation: &Relation) -> Value {
    reference("schemas", &format!("{}.selected", key(&relation.name)))
}

/// The components of a relation: a whole row, a selected row, and where possible a row to insert and columns to
/// update.
pub(super) fn of_relation(description: &Description<'_>, relation: &Relation) -> Vec<(String, Value)> {
    let key = key(&relation.name);
    let words = relation.comment.as_deref();
    let row = properties(relation.columns.iter(), |column| read(description, relation, column));
    let selected: Map<String, Value> =
        row.clone().into_iter().chain(embeddings(description, relation)).collect();
    let always: Vec<&str> = relation
        .columns
        .iter()
        .filter(|column| !may_be_null(relation, column) && !is_represented(description, column))
        .map(|column| &*column.name)
        .collect();
    let mut components = vec![
        (key.clone(), object(words, &row, &always)),
        (format!("{key}.selected"), object(words, &selected, &[])),
    ];
    if relation.insertable || relation.updatable {
        let writable = || relation.columns.iter().filter(|column| column.writable);
        let properties = properties(writable(), |column| written(description, relation, column));
        let required: Vec<&str> = writable()
            .filter(|column| !column.nullable && column.default.is_none())
            .map(|column| &*column.name)
            .collect();
        let update = reference("schemas", &format!("{key}.update"));
        components.push((
            format!("{key}.insert"),
            json!({ "allOf": [update, { "type": "object", "required": required }] }),
        ));
        let mut written = object(words, &properties, &[]);
        written["additionalProperties"] = false.into();
        components.push((format!("{key}.update"), written));
    }
    components
}

/// The properties of a row returned by a function: any column may be null.
pub(super) fn returned(description: &Description<'_>, relation: &Relation) -> Value {
    let columns =
        properties(relation.columns.iter(), |column| types::nullable(read(description, relation, column)));
    object(None, &columns.into_iter().chain(embeddings(description, relation)).collect(), &[])
}

fn properties<'c>(
    columns: impl Iterator<Item = &'c Column>,
    schema: impl Fn(&Column) -> Schema,
) -> Map<String, Value> {
    columns.map(|column| (column.name.to_string(), schema(column).into())).collect()
}

/// An object schema with properties.
pub(super) fn object(description: Option<&str>, properties: &Map<String, Value>, required: &[&str]) -> Value {
    let mut object = json!({ "type": "object", "properties": properties });
    if let Some(description) = description {
        object["description"] = description.into();
    }
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

/// Whether a column may be null when read: an outer join in a view or a foreign server may return null for a column
/// declared not null.
fn may_be_null(relation: &Relation, column: &Column) -> bool {
    column.nullable || relation.kind.is_view() || relation.kind == RelationKind::Foreign
}

/// Whether the column's domain has a user-defined JSON representation, whose form is unknown.
fn is_represented(description: &Description<'_>, column: &Column) -> bool {
    description.cache.representation(&column.nominal_type, "json").is_some()
}

/// The schema of a column when read.
fn read(description: &Description<'_>, relation: &Relation, column: &Column) -> Schema {
    let represented = is_represented(description, column);
    let mut schema =
        if represented { Map::new() } else { types::of_column(column, may_be_null(relation, column)) };
    if !represented && let Some(default) = types::constant(column) {
        schema.insert("default".into(), default);
    }
    describe(description, relation, column, &mut schema);
    if !column.writable {
        schema.insert("readOnly".into(), true.into());
    }
    schema
}

/// The schema of a column when written.
fn written(description: &Description<'_>, relation: &Relation, column: &Column) -> Schema {
    let represented = description.cache.representation(&column.nominal_type, "json");
    let mut schema = match description.cache.representation("json", &column.nominal_type) {
        Some(_) => Map::new(),
        None => types::of_column(column, column.nullable),
    };
    if represented.is_none()
        && let Some(default) = types::constant(column)
    {
        schema.insert("default".into(), default);
    }
    describe(description, relation, column, &mut schema);
    schema
}

fn describe(description: &Description<'_>, relation: &Relation, column: &Column, schema: &mut Schema) {
    let mut words: Vec<String> = column.comment.iter().map(ToString::to_string).collect();
    if relation.primary_key.contains(&column.name) {
        words.push("Primary key.".into());
    }
    if let Some((target, key)) = description.foreign_key(relation, column) {
        words.push(format!("Foreign key to `{target}.{key}`."));
    }
    if !words.is_empty() {
        schema.insert("description".into(), words.join("\n\n").into());
    }
}

/// The embeddable relations of a relation, as properties that are present only when selected.
fn embeddings<'d>(
    description: &'d Description<'_>,
    relation: &'d Relation,
) -> impl Iterator<Item = (String, Value)> {
    let mut by_name: BTreeMap<&str, Vec<&Relationship>> = BTreeMap::new();
    for relationship in description.embeddable(relation) {
        by_name.entry(embedded_name(relationship)).or_default().push(relationship);
    }
    by_name
        .into_iter()
        .filter(|(name, _)| relation.column(name).is_none())
        .map(|(name, relationships)| (name.to_owned(), embedding(name, &relationships)))
}

/// The name that selects a relationship.
pub(super) fn embedded_name(relationship: &Relationship) -> &str {
    match &relationship.link {
        Link::Computed { function, .. } => &function.name,
        Link::Key { .. } => &relationship.target.name,
    }
}

fn embedding(name: &str, relationships: &[&Relationship]) -> Value {
    let rows = reference("schemas", &format!("{}.selected", key(&relationships[0].target.name)));
    let to_one = relationships.iter().all(|relationship| relationship.is_to_one());
    let to_many = relationships.iter().all(|relationship| !relationship.is_to_one());
    let mut words = format!("Related rows, there when selected: `select=*,{name}(*)`.");
    if relationships.len() > 1 {
        words.push_str(" Several relationships lead there, so one must be named after `!`.");
    }
    let mut schema = match (to_one, to_many) {
        (true, _) => json!({ "anyOf": [rows, { "type": "null" }] }),
        (_, true) => json!({ "type": "array", "items": rows }),
        _ => json!({}),
    };
    schema["description"] = words.into();
    schema["readOnly"] = true.into();
    schema
}
