//! The operations of a relation.

use serde_json::{Map, Value, json};

use super::component::{key, reference, selected};
use super::{Description, parameter};
use crate::schema::{MediaTarget, QualifiedName, Relation};

/// The path item of a relation with the operations the request role may use; `None` if there are none.
pub(super) fn of_relation(description: &Description<'_>, relation: &Relation) -> Option<Value> {
    let methods = description.privileges.methods(relation);
    let mut item = Map::new();
    if methods.select {
        item.insert("get".into(), read(description, relation));
    }
    if methods.insert {
        item.insert("post".into(), insert(relation));
    }
    if methods.insert && methods.update && methods.select && !relation.primary_key.is_empty() {
        item.insert("put".into(), replace(description, relation));
    }
    if methods.update {
        item.insert("patch".into(), update(description, relation));
    }
    if methods.delete {
        item.insert("delete".into(), delete(description, relation));
    }
    (!item.is_empty()).then(|| item.into())
}

/// Splits a comment into its first line and the rest.
pub(super) fn words(comment: Option<&str>) -> (Option<&str>, Option<&str>) {
    let Some(comment) = comment else { return (None, None) };
    match comment.split_once('\n') {
        Some((first, rest)) => {
            (Some(first), Some(rest.trim_start_matches('\n')).filter(|rest| !rest.is_empty()))
        }
        None => (Some(comment), None),
    }
}

/// Responses shared by all operations.
pub(super) fn shared_responses() -> Value {
    json!({
        "error": {
            "description": "The request failed; the body has the reason.",
            "content": { "application/json": { "schema": reference("schemas", ERROR) } },
        },
    })
}

/// The name of the error component; no relation's component can have it.
pub(super) const ERROR: &str = "-error";

/// The schema of an error.
pub(super) fn error_schema() -> Value {
    json!({
        "type": "object",
        "description": "The reason of a failed request.",
        "properties": {
            "code": { "type": "string", "description": "PostgREST's error code (PGRST…) or a SQLSTATE." },
            "message": { "type": "string" },
            "details": {},
            "hint": { "type": ["string", "null"] },
        },
        "required": ["code", "message"],
    })
}

fn operation(relation: &Relation, verb: &str, does: &str, parameters: impl Iterator<Item = Value>) -> Value {
    let (summary, rest) = words(relation.comment.as_deref());
    let mut operation = json!({
        "operationId": format!("{verb}_{}", key(&relation.name)),
        "tags": [relation.name],
        "summary": format!("{does} `{}`", relation.name),
        "parameters": parameters.collect::<Vec<_>>(),
    });
    let description: Vec<&str> = summary.into_iter().chain(rest).collect();
    if !description.is_empty() {
        operation["description"] = description.join("\n\n").into();
    }
    operation
}

/// Rows in all available media types.
fn rows(description: &Description<'_>, relation: &Relation) -> Value {
    let row = selected(relation);
    let name = QualifiedName { schema: relation.schema.clone(), name: relation.name.clone() };
    content(description, name, &json!({ "type": "array", "items": row }), &row)
}

/// A body as JSON, as a single JSON object, as CSV, and in the media types of custom handlers. A handler may replace
/// JSON, or all media types (`*/*`).
pub(super) fn content(
    description: &Description<'_>,
    target: QualifiedName,
    whole: &Value,
    single: &Value,
) -> Value {
    let cache = description.cache;
    let mut content = json!({
        "application/json": { "schema": whole },
        "application/vnd.pgrst.object+json": { "schema": single },
        "text/csv": { "schema": { "type": "string" } },
    });
    let own = MediaTarget::Named(target);
    let mut custom: Vec<&str> = cache.media_types(&MediaTarget::Any).chain(cache.media_types(&own)).collect();
    custom.sort_unstable();
    for media_type in custom {
        content[media_type] = json!({ "schema": {} });
    }
    if cache.media_handler(&own, "*/*").is_some() {
        // the handler also replaces JSON
        content["application/json"] = json!({ "schema": {} });
    }
    content
}

fn body(schema: &Value, also: &[&str]) -> Value {
    let mut content = json!({ "application/json": { "schema": schema } });
    for media_type in also {
        content[*media_type] =
            json!({ "schema": { "type": if *media_type == "text/csv" { "string" } else { "object" } } });
    }
    json!({ "required": true, "content": content })
}

fn read(description: &Description<'_>, relation: &Relation) -> Value {
    let shared = parameter::references(&["and", "or", "order", "limit", "offset", "range", "prefer_read"]);
    let parameters = std::iter::once(parameter::select_reference(relation))
        .chain(parameter::filter_references(relation))
        .chain(shared);
    let mut operation = operation(relation, "read", "Rows of", parameters);
    let range = json!({
        "Content-Range": { "description": "Positions of the rows, and the total number.", "schema": { "type": "string" } },
    });
    operation["responses"] = json!({
        "200": { "description": "The rows.", "headers": range, "content": rows(description, relation) },
        "206": { "description": "Some of the rows, and the total number.", "headers": range, "content": rows(description, relation) },
        "default": reference("responses", "error"),
    });
    operation
}

/// A response has one description for all preferences: the body is described as empty where it is by default.
const BODY: &str =
    "The body is empty; with `Prefer: return=representation` it holds the rows, as a GET's does.";

fn insert(relation: &Relation) -> Value {
    let shared = parameter::references(&["columns", "on_conflict", "prefer_insert"]);
    let mut operation = operation(
        relation,
        "insert",
        "Insert into",
        std::iter::once(parameter::select_reference(relation)).chain(shared),
    );
    let row = reference("schemas", &format!("{}.insert", key(&relation.name)));
    let schema = json!({ "anyOf": [row, { "type": "array", "items": row }] });
    operation["requestBody"] = body(&schema, &["text/csv", "application/x-www-form-urlencoded"]);
    operation["responses"] = json!({
        "200": { "description": format!("Every row existed and was updated. {BODY}") },
        "201": {
            "description": format!("Inserted. {BODY}"),
            "headers": { "Location": { "description": "With `return=headers-only`: the path of the new row.", "schema": { "type": "string" } } },
        },
        "default": reference("responses", "error"),
    });
    operation
}

fn replace(description: &Description<'_>, relation: &Relation) -> Value {
    let parameters = parameter::key_filters(relation)
        .chain([parameter::select_reference(relation)])
        .chain(parameter::references(&["prefer_write"]));
    let mut operation = operation(relation, "replace", "Insert or replace one row of", parameters);
    operation["requestBody"] = body(&reference("schemas", &format!("{}.insert", key(&relation.name))), &[]);
    operation["responses"] = json!({
        "200": { "description": "Replaced, with `return=representation`.", "content": rows(description, relation) },
        "201": { "description": "Inserted, with `return=representation`.", "content": rows(description, relation) },
        "204": { "description": "Done." },
        "default": reference("responses", "error"),
    });
    operation
}

fn update(description: &Description<'_>, relation: &Relation) -> Value {
    let mut operation = operation(relation, "update", "Update", changed(relation, &["columns"]));
    operation["requestBody"] = body(&reference("schemas", &format!("{}.update", key(&relation.name))), &[]);
    operation["responses"] = changed_responses(description, relation);
    operation
}

fn delete(description: &Description<'_>, relation: &Relation) -> Value {
    let mut operation = operation(relation, "delete", "Delete from", changed(relation, &[]));
    operation["responses"] = changed_responses(description, relation);
    operation
}

/// Parameters that select the rows to change.
fn changed(relation: &Relation, also: &'static [&'static str]) -> impl Iterator<Item = Value> {
    parameter::filter_references(relation)
        .chain(parameter::references(&["and", "or"]))
        .chain([parameter::select_reference(relation)])
        .chain(parameter::references(also))
        .chain(parameter::references(&["prefer_write"]))
}

fn changed_responses(description: &Description<'_>, relation: &Relation) -> Value {
    json!({
        "200": { "description": "Done, with `return=representation`: the rows.", "content": rows(description, relation) },
        "204": { "description": "Done." },
        "default": reference("responses", "error"),
    })
}
