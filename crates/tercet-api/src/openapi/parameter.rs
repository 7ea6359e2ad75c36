//! Parameters of operations: filters, `select`, `order`, `limit`, `offset` and preferences.

use serde_json::{Map, Value, json};

use super::component::{embedded_name, key, reference};
use super::{Description, path};
use crate::schema::{Column, Relation, Relationship};

/// Query parameters that are not filters.
const RESERVED: [&str; 8] = ["select", "order", "limit", "offset", "and", "or", "columns", "on_conflict"];

/// Parameters shared by all relations.
pub(super) fn shared() -> Map<String, Value> {
    let query = |name: &str, description: &str| json!({ "name": name, "in": "query", "description": description, "schema": { "type": "string" } });
    let rows = |name: &str, description: &str| json!({ "name": name, "in": "query", "description": description, "schema": { "type": "integer", "minimum": 0, "maximum": (1_u64 << 53) - 1 } });
    let parameters = json!({
        "order": query("order", "Order of the rows: `name.desc.nullslast,id`, `related(name)`."),
        "limit": rows("limit", "Rows returned at most."),
        "offset": rows("offset", "Rows skipped."),
        "and": query("and", "Conditions that must all hold: `(age.gte.18,or(name.eq.A,name.is.null))`."),
        "or": query("or", "Conditions of which one must hold: `(age.lt.18,age.gt.65)`."),
        "columns": query("columns", "Keys of the body to use: others are ignored, and rows may differ in their keys."),
        "on_conflict": query("on_conflict", "Unique columns that identify existing rows; the primary key if absent."),
        "range": {
            "name": "Range",
            "in": "header",
            "description": "Rows by position, `0-9`, instead of limit and offset.",
            "schema": { "type": "string", "pattern": "^[0-9]+-[0-9]*$" },
        },
        "prefer_read": prefer("`count=exact`, `count=planned` or `count=estimated` asks for the total number of rows; \
             `handling=strict` refuses preferences that are not understood; `timezone=…` shows times there."),
        "prefer_insert": prefer("`return=representation`, `return=headers-only` or `return=minimal` selects the response body; \
             `resolution=merge-duplicates` or `resolution=ignore-duplicates` what happens to rows that exist; \
             `missing=default` or `missing=null` what a missing key means."),
        "prefer_write": prefer("`return=representation` or `return=minimal` selects the response body; `count=exact` asks for the number of rows; \
             `handling=strict, max-affected=10` refuses to change more rows than that."),
        "prefer_call": prefer("`count=exact` asks for the total number of rows; `handling=strict, max-affected=10` \
             refuses to change more rows than that; `timezone=…` shows times there."),
    });
    match parameters {
        Value::Object(parameters) => parameters,
        _ => Map::new(),
    }
}

fn prefer(description: &str) -> Value {
    json!({
        "name": "Prefer",
        "in": "header",
        "description": format!("Comma-separated preferences: {description}"),
        "schema": { "type": "string" },
    })
}

/// References to shared parameters.
pub(super) fn references(names: &[&str]) -> impl Iterator<Item = Value> {
    names.iter().map(|name| reference("parameters", name))
}

/// The parameters of one relation: `select`, and a filter for each column.
pub(super) fn of_relation<'r>(
    description: &Description<'_>,
    relation: &'r Relation,
) -> impl Iterator<Item = (String, Value)> + use<'r> {
    let select = (select_key(relation), select(description, relation));
    std::iter::once(select)
        .chain(filtered(relation).map(|column| (filter_key(relation, column), filter(column))))
}

/// A reference to the `select` parameter of a relation.
pub(super) fn select_reference(relation: &Relation) -> Value {
    reference("parameters", &select_key(relation))
}

/// References to the filters of a relation.
pub(super) fn filter_references(relation: &Relation) -> impl Iterator<Item = Value> {
    filtered(relation).map(|column| reference("parameters", &filter_key(relation, column)))
}

fn select_key(relation: &Relation) -> String {
    format!("select.{}", key(&relation.name))
}

fn filter_key(relation: &Relation, column: &Column) -> String {
    format!("filter.{}.{}", key(&relation.name), key(&column.name))
}

/// Columns with a filter parameter: all but those named like another parameter.
fn filtered(relation: &Relation) -> impl Iterator<Item = &Column> {
    relation.columns.iter().filter(|column| !RESERVED.contains(&&*column.name))
}

fn select(description: &Description<'_>, relation: &Relation) -> Value {
    let mut words = "Comma-separated columns: `id,label:name,price::text`.".to_owned();
    let related: Vec<String> = description.embeddable(relation).map(related).collect();
    if !related.is_empty() {
        words.push_str("\n\nRelated rows can be embedded:\n");
        for line in related {
            words.push_str("\n* ");
            words.push_str(&line);
        }
    }
    words.push_str("\n\nA response contains what is selected; renamed columns are not described.");
    json!({ "name": "select", "in": "query", "description": words, "schema": { "type": "string", "default": "*" } })
}

fn related(relationship: &Relationship) -> String {
    let name = embedded_name(relationship);
    let many = if relationship.is_to_one() { "one" } else { "many" };
    match relationship.key() {
        Some(key) => format!("`{name}(*)`: {many}, by `{}`", key.constraint),
        None => format!("`{name}(*)`: {many}"),
    }
}

fn filter(column: &Column) -> Value {
    let comment = column.comment.as_deref().map(|comment| format!("{comment}\n\n")).unwrap_or_default();
    json!({
        "name": column.name,
        "in": "query",
        "description": format!(
            "{comment}Condition on `{}` ({}), an operator and a value: `eq.…`, `gt.…`, `in.(…,…)`, `is.null`.",
            column.name, column.nominal_type
        ),
        "schema": { "type": "string", "pattern": r"^(not\.)?[a-z]+(\([a-z_]+\))?\." },
    })
}

/// Required filters on the primary key.
pub(super) fn key_filters(relation: &Relation) -> impl Iterator<Item = Value> {
    relation.primary_key.iter().map(|column| {
        json!({
            "name": column,
            "in": "query",
            "required": true,
            "description": format!("The row's `{column}`, as in `{}?{column}=eq.…`.", path(&relation.name)),
            "schema": { "type": "string", "pattern": "^eq\\." },
        })
    })
}
