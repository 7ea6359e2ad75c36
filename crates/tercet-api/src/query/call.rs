//! Calls: a routine with its arguments, and the selection from its rows.

use super::fragment::{Sql, array_literal};
use super::payload::{self, Reading};
use super::{BODY_ROWS, SOURCE, assertion, body, count, node};
use crate::plan::{Argument, Arguments, CallPlan, StatementPlan, TypedField};
use crate::request::field::Field;
use crate::schema::{Parameter, QualifiedName};

/// The statement of a call.
pub(super) fn statement(sql: &mut Sql, plan: &StatementPlan, call: &CallPlan) {
    sql.push("WITH ");
    assertion::add(sql, plan);
    sql.push(SOURCE).push(" AS (");
    source(sql, call);
    sql.push(")");
    let total = count::source(sql, plan);
    sql.push(" SELECT ");
    total.add(sql, plan);
    sql.push(" AS total_result_set, ");
    count::page(sql, plan);
    sql.push(" AS page_total, ");
    body::add(sql, plan);
    sql.push(" AS body, ");
    body::response_settings(sql);
    sql.push(" FROM (");
    node::rows(sql, &plan.tree);
    sql.push(") ").push(BODY_ROWS);
}

fn source(sql: &mut Sql, call: &CallPlan) {
    let scalar = call.routine.returns_scalar() || call.routine.returns_set_of_scalar();
    let returned = QualifiedName::local("pgrst_call");
    sql.push("SELECT ");
    if scalar {
        sql.push("pgrst_call.pgrst_scalar");
    } else if call.returning.is_empty() {
        sql.push("*");
    } else {
        sql.list(&call.returning, ", ", |sql, it| {
            sql.column(&returned, it);
        });
    }
    sql.push(" ");
    if let Arguments::Members { body, parameters } = &call.arguments {
        let columns: Vec<TypedField> = parameters.iter().map(member).collect();
        payload::add(sql, body, &columns, Reading { defaults: false, first_only: true });
        sql.push(", LATERAL ");
    } else {
        sql.push("FROM ");
    }
    if scalar {
        sql.push("(SELECT ");
    }
    sql.qualified(&QualifiedName { schema: call.routine.schema.clone(), name: call.routine.name.clone() });
    sql.push("(");
    arguments(sql, &call.arguments);
    sql.push(if scalar { ") pgrst_scalar) pgrst_call" } else { ") pgrst_call" });
}

/// A parameter as a column of the body's record.
fn member(parameter: &Parameter) -> TypedField {
    let field = Field { name: parameter.name.to_string(), json_path: Vec::new() };
    TypedField { data_type: parameter.argument_type.clone(), ..TypedField::unknown(&field) }
}

fn arguments(sql: &mut Sql, arguments: &Arguments) {
    match arguments {
        Arguments::None => {}
        Arguments::Whole { body, data_type } if &**data_type == "bytea" => {
            // A parameter is text: bytes are sent in hexadecimal.
            let mut digits = String::with_capacity(2 + body.len() * 2);
            digits.push_str("\\x");
            for byte in body {
                digits.extend(
                    [byte >> 4, byte & 15].map(|half| char::from_digit(half.into(), 16).unwrap_or('0')),
                );
            }
            sql.value(digits).push("::bytea");
        }
        Arguments::Whole { body, data_type } => {
            sql.value(body.clone()).push("::").catalogue(data_type);
        }
        Arguments::Members { parameters, .. } => {
            sql.list(parameters, ", ", |sql, it| {
                name(sql, it);
                sql.push("pgrst_body.").name(&it.name);
            });
        }
        Arguments::Values(values) => {
            sql.list(values, ", ", |sql, (parameter, argument)| {
                name(sql, parameter);
                match argument {
                    Argument::One(value) => sql.value(value.clone()),
                    Argument::Many(values) => sql.value(array_literal(values)),
                };
                sql.push("::").catalogue(&parameter.argument_type);
            });
        }
    }
}

fn name(sql: &mut Sql, parameter: &Parameter) {
    if parameter.variadic {
        sql.push("VARIADIC ");
    }
    sql.name(&parameter.name).push(" := ");
}
