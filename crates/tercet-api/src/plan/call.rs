//! Planning calls: overload resolution and argument passing.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::write::needed_columns;
use super::{Condition, Planner, ReadNode, SUGGESTION_LIMIT};
use crate::error::schema::UnnamedParameter;
use crate::error::{ApiError, RequestError, SchemaError, suggestion};
use crate::media_type::MediaType;
use crate::request::Invocation;
use crate::request::parameters::repeated_parameter;
use crate::request::payload::Payload;
use crate::schema::{Parameter, Routine};

/// A call of a routine.
#[derive(Debug)]
pub struct CallPlan {
    /// The overload.
    pub routine: Arc<Routine>,
    /// Its arguments.
    pub arguments: Arguments,
    /// The columns needed from the returned rows; empty means all.
    pub returning: Vec<String>,
}

/// The arguments of a call.
#[derive(Debug)]
pub enum Arguments {
    /// No arguments.
    None,
    /// The whole body is the one unnamed argument.
    Whole {
        /// The body as received.
        body: Bytes,
        /// The parameter's type, quoted.
        data_type: Arc<str>,
    },
    /// Members of a JSON object.
    Members {
        /// The JSON text.
        body: Bytes,
        /// The parameters with an argument.
        parameters: Vec<Parameter>,
    },
    /// Arguments as text.
    Values(Vec<(Parameter, Argument)>),
}

/// An argument as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    /// A single value.
    One(String),
    /// The values of a variadic parameter.
    Many(Vec<String>),
}

impl<'a> Planner<'a> {
    /// Resolves the overload that takes the given arguments.
    pub(super) fn routine(self, name: &str, invocation: Invocation) -> Result<&'a Arc<Routine>, ApiError> {
        let schema = self.request.schema.as_str();
        let overloads = self.cache.routines(schema, name);
        let names = self.argument_names(invocation);
        let posted = invocation == Invocation::Post;
        let content = &self.request.content_type;
        let raw = matches!(content, MediaType::OctetStream | MediaType::PlainText | MediaType::Xml);
        // a body without argument names is the single unnamed argument
        let is_value = matches!(self.request.payload, Some(Payload::JsonValue(_)));
        let named = |routine: &&Arc<Routine>| {
            takes(routine, &names) && !(routine.parameters.is_empty() && posted && raw) && !is_value
        };
        let whole = |routine: &&Arc<Routine>| posted && takes_whole(routine, content);

        let mut matching: Vec<_> = overloads.iter().filter(named).collect();
        if matching.is_empty() {
            matching = overloads.iter().filter(whole).collect();
        }
        match matching.as_slice() {
            [only] => Ok(only),
            [] => Err(SchemaError::NoRoutine {
                schema: schema.to_owned(),
                routine: name.to_owned(),
                suggestion: self.suggest_routine(name, overloads, &names),
                procedure: overloads.is_empty() && self.cache.is_procedure(schema, name),
                arguments: names.into_iter().map(str::to_owned).collect(),
                unnamed: UnnamedParameter::of(content).filter(|_| posted),
            }
            .into()),
            several => {
                Err(SchemaError::AmbiguousRoutine(several.iter().map(|it| signature(it)).collect()).into())
            }
        }
    }

    fn argument_names(self, invocation: Invocation) -> BTreeSet<&'a str> {
        match invocation {
            Invocation::Read { .. } => {
                self.request.parameters.arguments.iter().map(|(name, _)| name.as_str()).collect()
            }
            Invocation::Post => self.request.columns.iter().map(String::as_str).collect(),
        }
    }

    /// A similar routine name; if the name exists, the name with the parameters of the most similar overload.
    fn suggest_routine(
        self,
        name: &str,
        overloads: &[Arc<Routine>],
        given: &BTreeSet<&str>,
    ) -> Option<String> {
        if overloads.is_empty() {
            let names: Vec<&str> =
                self.cache.routine_names(&self.request.schema).map(AsRef::as_ref).collect();
            if names.len() > SUGGESTION_LIMIT {
                return None;
            }
            return suggestion::closest(name, &names.iter().copied(), suggestion::SIMILAR)
                .map(|(_, name)| name.to_owned());
        }
        let list = |mut names: Vec<&str>| {
            names.sort_unstable();
            format!("({})", names.join(", "))
        };
        let known: Vec<String> = overloads
            .iter()
            .map(|routine| list(routine.parameters.iter().map(|parameter| &*parameter.name).collect()))
            .collect();
        let given = list(given.iter().copied().collect());
        suggestion::closest(&given, &known.iter().map(String::as_str), suggestion::RELATED)
            .map(|(_, parameters)| format!("{name}{parameters}"))
    }

    pub(super) fn call_plan(
        self,
        routine: &Arc<Routine>,
        invocation: Invocation,
        tree: &ReadNode,
    ) -> Result<CallPlan, RequestError> {
        let given = self.argument_names(invocation);
        let specified: Vec<Parameter> =
            routine.parameters.iter().filter(|it| given.contains(&*it.name)).cloned().collect();
        let arguments = match (routine.parameters.as_slice(), invocation, &self.request.payload) {
            ([only], Invocation::Post, payload)
                if only.name.is_empty() && !matches!(payload, Some(Payload::Form(_))) =>
            {
                Arguments::Whole { body: self.body(), data_type: only.data_type.clone() }
            }
            _ if specified.is_empty() => Arguments::None,
            (_, Invocation::Read { .. }, _) => {
                Arguments::Values(values(&specified, &self.request.parameters.arguments, repeated_parameter)?)
            }
            (_, Invocation::Post, Some(Payload::Form(fields))) => {
                Arguments::Values(values(&specified, fields, RequestError::Repeated)?)
            }
            (_, Invocation::Post, _) => {
                self.check_members()?;
                Arguments::Members { body: self.body(), parameters: specified }
            }
        };
        let mut returning = needed_columns(tree, &[]);
        if returning != ["*"] && !returning.is_empty() {
            // Filters apply to the result of the call, so their columns must be returned.
            filtered_columns(&tree.conditions, &mut returning);
            returning.sort_unstable();
            returning.dedup();
        }
        Ok(CallPlan { routine: routine.clone(), arguments, returning })
    }

    /// Checks that a body of several rows has no ambiguous arguments. Of a JSON array the first object is used, as in
    /// PostgREST.
    fn check_members(self) -> Result<(), RequestError> {
        let Some(rows) = self.request.payload.as_ref().and_then(Payload::rows) else { return Ok(()) };
        if let Some(key) = &rows.repeated {
            return Err(RequestError::Repeated(key.clone()));
        }
        if rows.count == 0 || rows.count > 1 && self.request.content_type == MediaType::Csv {
            let purpose = "a routine is called with the arguments of one row";
            return Err(RequestError::Rows { purpose, rows: rows.count });
        }
        Ok(())
    }
}

fn filtered_columns(conditions: &[Condition], columns: &mut Vec<String>) {
    for condition in conditions {
        match condition {
            Condition::Branch { branches, .. } => filtered_columns(branches, columns),
            Condition::Comparison { field, .. } => columns.push(field.name.clone()),
            Condition::Embedded { .. } => {}
        }
    }
}

/// Whether all required arguments are given, and no unknown ones.
fn takes(routine: &Routine, given: &BTreeSet<&str>) -> bool {
    let known = |name: &&str| routine.parameters.iter().any(|parameter| *parameter.name == **name);
    given.iter().all(known)
        && routine
            .parameters
            .iter()
            .filter(|parameter| parameter.required)
            .all(|parameter| given.contains(&*parameter.name))
}

/// Whether a body of this type can be the single unnamed argument.
fn takes_whole(routine: &Routine, content: &MediaType) -> bool {
    let [only] = routine.parameters.as_slice() else { return false };
    only.name.is_empty()
        && matches!(
            (content, &*only.data_type),
            (MediaType::Json, "json" | "jsonb")
                | (MediaType::PlainText, "text")
                | (MediaType::Xml, "xml")
                | (MediaType::OctetStream, "bytea")
        )
}

fn signature(routine: &Routine) -> String {
    let parameters: Vec<String> =
        routine.parameters.iter().map(|it| format!("{} => {}", it.name, it.data_type)).collect();
    format!("{}.{}({})", routine.schema, routine.name, parameters.join(", "))
}

/// The values of each parameter; several for a variadic one.
fn values(
    parameters: &[Parameter],
    given: &[(String, String)],
    repeated: fn(String) -> RequestError,
) -> Result<Vec<(Parameter, Argument)>, RequestError> {
    parameters
        .iter()
        .map(|parameter| {
            let mut values =
                given.iter().filter(|(name, _)| *name == *parameter.name).map(|(_, value)| value.clone());
            let argument = if parameter.variadic {
                Argument::Many(values.collect())
            } else {
                let value = values.next().unwrap_or_default();
                if values.next().is_some() {
                    return Err(repeated(parameter.name.to_string()));
                }
                Argument::One(value)
            };
            Ok((parameter.clone(), argument))
        })
        .collect()
}
