//! The operations of a routine; overloads share a path.

use serde_json::{Map, Value, json};

use super::component::{key, object, reference};
use super::{Description, component, operation, parameter, types};
use crate::schema::{Parameter, QualifiedName, Routine, RoutineResult, Volatility};

/// An overload and its parameter types.
pub(super) type Overload<'a> = (&'a Routine, Vec<&'a str>);

/// The path item of a routine.
pub(super) fn path_item(description: &Description<'_>, overloads: &[Overload<'_>]) -> Value {
    let mut item = Map::new();
    // one unnamed parameter takes the whole body, and a GET has none
    let named = |routine: &Routine| routine.parameters.iter().all(|parameter| !parameter.name.is_empty());
    let readable: Vec<&Overload<'_>> = overloads
        .iter()
        .filter(|(routine, _)| routine.volatility != Volatility::Volatile && named(routine))
        .collect();
    if !readable.is_empty() {
        item.insert("get".into(), query(description, &readable));
    }
    item.insert("post".into(), call(description, overloads));
    item.into()
}

fn base(verb: &str, overloads: &[&Overload<'_>]) -> Value {
    let (first, _) = overloads[0];
    let comments: Vec<&str> =
        overloads.iter().filter_map(|(routine, _)| routine.comment.as_deref()).collect();
    let mut operation = json!({
        "operationId": format!("{verb}_{}", key(&first.name)),
        "tags": [format!("(rpc) {}", first.name)],
        "summary": operation::words(comments.first().copied()).0.map_or_else(|| format!("Call `{}`", first.name), str::to_owned),
    });
    if !comments.is_empty() {
        operation["description"] = comments.join("\n\n").into();
    }
    operation
}

fn query(description: &Description<'_>, overloads: &[&Overload<'_>]) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    for (routine, types) in overloads {
        for (parameter, data_type) in routine.parameters.iter().zip(types) {
            let known = parameters.iter().any(|known| known["name"] == *parameter.name);
            if !known && !parameter.name.is_empty() {
                let everywhere = overloads.iter().all(|(routine, _)| {
                    routine.parameters.iter().any(|other| other.name == parameter.name && other.required)
                });
                parameters.push(query_parameter(parameter, data_type, everywhere));
            }
        }
    }
    parameters.extend(result_parameters(overloads));
    let mut operation = base("query", overloads);
    operation["parameters"] = parameters.into();
    operation["responses"] = responses(description, overloads);
    operation
}

/// An argument in the query string; a variadic one may be repeated.
fn query_parameter(parameter: &Parameter, data_type: &str, required: bool) -> Value {
    let mut schema = if parameter.variadic { types::schema(data_type) } else { text_of(data_type) };
    if parameter.variadic && !schema.contains_key("items") {
        schema = Map::from_iter([("type".into(), "array".into()), ("items".into(), json!({}))]);
    }
    let mut query = json!({
        "name": parameter.name,
        "in": "query",
        "required": required,
        "description": format!("`{data_type}`"),
        "schema": schema,
    });
    if parameter.variadic {
        query["style"] = "form".into();
        query["explode"] = true.into();
    }
    query
}

/// The schema of a value in the query string: arrays and JSON are text.
fn text_of(data_type: &str) -> Map<String, Value> {
    let schema = types::schema(data_type);
    match schema.get("type").and_then(Value::as_str) {
        Some("array") | None => Map::from_iter([("type".into(), "string".into())]),
        Some(_) => schema,
    }
}

/// Parameters for a result that is a set of rows.
fn result_parameters(overloads: &[&Overload<'_>]) -> Vec<Value> {
    let is_set = overloads.iter().any(|(routine, _)| routine.returns_set);
    let taken = |name: &str| {
        overloads
            .iter()
            .any(|(routine, _)| routine.parameters.iter().any(|parameter| &*parameter.name == name))
    };
    let mut parameters: Vec<Value> = Vec::new();
    if is_set {
        let names = ["order", "limit", "offset"].into_iter().filter(|name| !taken(name)).collect::<Vec<_>>();
        parameters.extend(parameter::references(&names));
    }
    parameters.extend(parameter::references(&["prefer_call"]));
    parameters
}

fn call(description: &Description<'_>, overloads: &[Overload<'_>]) -> Value {
    let overloads: Vec<&Overload<'_>> = overloads.iter().collect();
    let mut operation = base("call", &overloads);
    operation["parameters"] = result_parameters(&overloads).into();
    let mut content: Map<String, Value> = Map::new();
    for (routine, types) in &overloads {
        let (media_type, schema) = arguments(routine, types);
        match content.get_mut(media_type) {
            None => _ = content.insert(media_type.into(), json!({ "schema": schema })),
            Some(known) => {
                if let Some(Value::Array(any)) = known.pointer_mut("/schema/anyOf") {
                    any.push(schema);
                } else {
                    let first = known["schema"].take();
                    known["schema"] = json!({ "anyOf": [first, schema] });
                }
            }
        }
    }
    operation["requestBody"] = json!({ "content": content });
    operation["responses"] = responses(description, &overloads);
    operation
}

/// The request body: an object with the arguments, or the one unnamed parameter.
fn arguments(routine: &Routine, types: &[&str]) -> (&'static str, Value) {
    if let ([parameter], [data_type]) = (routine.parameters.as_slice(), types)
        && parameter.name.is_empty()
    {
        return match *data_type {
            "text" => ("text/plain", json!({ "type": "string" })),
            "xml" => ("text/xml", json!({ "type": "string" })),
            "bytea" => ("application/octet-stream", json!({})),
            _ => ("application/json", json!({})),
        };
    }
    let properties = routine.parameters.iter().zip(types).map(|(parameter, data_type)| {
        (parameter.name.to_string(), types::nullable(types::schema(data_type)).into())
    });
    let required: Vec<&str> = routine
        .parameters
        .iter()
        .filter(|parameter| parameter.required)
        .map(|parameter| &*parameter.name)
        .collect();
    let mut arguments = object(None, &properties.collect(), &required);
    arguments["additionalProperties"] = false.into();
    ("application/json", arguments)
}

fn responses(description: &Description<'_>, overloads: &[&Overload<'_>]) -> Value {
    let mut responses = Map::new();
    let answering: Vec<&Routine> =
        overloads.iter().map(|(routine, _)| *routine).filter(|routine| !routine.returns_void()).collect();
    let mut results: Vec<Value> = answering.iter().map(|routine| result(description, routine)).collect();
    results.dedup();
    let any = |mut results: Vec<Value>| match results.len() {
        1 => results.remove(0),
        _ => json!({ "anyOf": results }),
    };
    if let Some(first) = answering.first() {
        let target = first.returned_relation().cloned();
        let target = target.unwrap_or_else(|| QualifiedName::new(first.schema.clone(), first.name.clone()));
        let content =
            operation::content(description, target, &any(results.clone()), &json!({ "type": "object" }));
        responses.insert("200".into(), json!({ "description": "The result.", "content": content }));
        if answering.iter().any(|routine| routine.returns_set) {
            let some =
                json!({ "description": "Some of the rows, and the total number.", "content": content });
            responses.insert("206".into(), some);
        }
    }
    if answering.len() < overloads.len() {
        responses.insert("204".into(), json!({ "description": "Done." }));
    }
    // a function may set the response status
    results.insert(0, reference("schemas", operation::ERROR));
    responses.insert(
        "default".into(),
        json!({
            "description": "The request failed, with the reason; or the result with a status set by the function.",
            "content": { "application/json": { "schema": any(results) } },
        }),
    );
    responses.into()
}

/// The result; any function may return null.
fn result(description: &Description<'_>, routine: &Routine) -> Value {
    let one = match &routine.result {
        RoutineResult::Scalar(name) => types::nullable(types::of_type(name)).into(),
        RoutineResult::Composite { of, .. } => match description.visible(&of.schema, &of.name) {
            Some(relation) => component::returned(description, relation),
            None => json!({ "type": "object" }),
        },
    };
    match (routine.returns_set, &routine.result) {
        (true, _) => json!({ "type": "array", "items": one }),
        (false, RoutineResult::Composite { .. }) => json!({ "anyOf": [one, { "type": "null" }] }),
        (false, _) => one,
    }
}
