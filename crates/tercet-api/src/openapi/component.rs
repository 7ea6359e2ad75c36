//! Schemas of relations: a row as it is read, and as it is written.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::{Description, types};
use crate::schema::{Column, Link, Relation, Relationship};

/// The name of a component: letters, digits, `.`, `-` and `_`, any other character by its number.
pub(super) fn key(name: &str) -> String {
    name.chars().fold(String::new(), |mut key, c| {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
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

/// Components of a relation: its rows, a row to insert, columns to update.
pub(super) fn of_relation(description: &Description<'_>, relation: &Relation) -> [(String, Value); 3] {
    let key = key(&relation.name);
    let names = |wanted: fn(&Column) -> bool| -> Vec<&str> {
        relation.columns.iter().filter(|column| wanted(column)).map(|column| &*column.name).collect()
    };
    let columns = || {
        relation
            .columns
            .iter()
            .map(|column| (column.name.to_string(), self::column(description, relation, column)))
    };
    let row: Map<String, Value> = columns().chain(embeddings(description, relation)).collect();
    let written: Map<String, Value> = columns().collect();
    [
        (key.clone(), object(relation.comment.as_deref(), &row, &names(|column| !column.nullable))),
        (
            format!("{key}.insert"),
            json!({
                "allOf": [
                    reference("schemas", &format!("{key}.update")),
                    { "required": names(|column| !column.nullable && column.default.is_none()) },
                ],
            }),
        ),
        (format!("{key}.update"), object(relation.comment.as_deref(), &written, &[])),
    ]
}

/// An object with properties.
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

fn column(description: &Description<'_>, relation: &Relation, column: &Column) -> Value {
    let mut schema = types::of_column(column);
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
    schema.into()
}

/// What can be embedded into rows of a relation, as properties that are there only when selected.
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

/// The name a relationship is selected by.
pub(super) fn embedded_name(relationship: &Relationship) -> &str {
    match &relationship.link {
        Link::Computed { function, .. } => &function.name,
        Link::Key { .. } => &relationship.target.name,
    }
}

fn embedding(name: &str, relationships: &[&Relationship]) -> Value {
    let rows = reference("schemas", &key(&relationships[0].target.name));
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
