//! Type assertions: a common table expression that PostgreSQL analyses but never executes. If a type differs from the
//! schema cache, the statement fails before it is bound, at a position inside the assertion. PostgreSQL analyses a
//! prepared statement again after a change of the objects it names.

use super::fragment::Sql;
use crate::plan::{CallPlan, Command, StatementPlan, TypedField, WriteKind};
use crate::schema::QualifiedName;

/// Adds the assertions of a plan, each followed by a comma.
pub(super) fn add(sql: &mut Sql, plan: &StatementPlan) {
    match &plan.command {
        Command::Read => {}
        Command::Write(write) => match &write.kind {
            WriteKind::Insert { columns, .. } | WriteKind::Update { columns, .. } => {
                sql.assert(|sql| columns_have_types(sql, &write.relation, columns));
            }
            WriteKind::Delete { .. } => {}
        },
        Command::Call(call) => sql.assert(|sql| routine_has_parameters(sql, call)),
    }
}

/// `array_eq` takes arrays of one type, without conversion.
fn columns_have_types(sql: &mut Sql, relation: &QualifiedName, columns: &[TypedField]) {
    // a representation function determines the column's type
    let mut typed = columns.iter().filter(|column| column.transform.is_none()).peekable();
    if typed.peek().is_none() {
        return;
    }
    sql.push("pgrst_types AS (SELECT ");
    sql.list(typed, ", ", |sql, column| {
        let is_array = column.data_type.ends_with("[]");
        sql.push(if is_array { "pg_catalog.array_eq(NULL::" } else { "pg_catalog.array_eq(ARRAY[NULL::" });
        sql.catalogue(&column.data_type);
        sql.push(if is_array { ", (NULL::" } else { "], ARRAY[(NULL::" });
        sql.qualified(relation).push(").").name(&column.name);
        sql.push(if is_array { ")" } else { "])" });
        if !is_array && !column.is_array {
            // an array of arrays has the same type as a one-dimensional array
            sql.push(", pg_catalog.textanycat('', (NULL::").qualified(relation).push(").").name(&column.name);
            sql.push(")");
        }
    });
    sql.push("), ");
}

/// `regprocedure` includes the types of all parameters.
fn routine_has_parameters(sql: &mut Sql, call: &CallPlan) {
    if call.routine.parameters.is_empty() {
        return;
    }
    let mut signature = Sql::new();
    let name = QualifiedName { schema: call.routine.schema.clone(), name: call.routine.name.clone() };
    signature.qualified(&name).push("(");
    signature.list(&call.routine.parameters, ",", |sql, parameter| {
        sql.catalogue(&parameter.data_type);
    });
    signature.push(")");
    sql.push("pgrst_types AS (SELECT ").constant(signature.text()).push("::pg_catalog.regprocedure), ");
}
