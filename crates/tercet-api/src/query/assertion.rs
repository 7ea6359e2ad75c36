//! Type assertions: common table expressions that PostgreSQL analyses but never executes. If a type differs from the
//! schema cache, the statement fails before it is bound, at a position inside the assertion. PostgreSQL analyses a
//! prepared statement again after a change of the objects it names.

use super::fragment::Sql;
use crate::plan::{CallPlan, Command, StatementPlan, TypedField, WriteKind};
use crate::schema::{Column, QualifiedName, Relation};

/// Adds the assertions of a plan, each followed by a comma.
pub(super) fn add(sql: &mut Sql, plan: &StatementPlan) {
    match &plan.command {
        Command::Read => {}
        Command::Write(write) => sql.assert(|sql| {
            let written = written(&write.kind).iter().filter_map(Typed::of);
            columns_have_types(sql, &write.relation, written, ", ");
        }),
        Command::Call(call) => sql.assert(|sql| routine_has_parameters(sql, call)),
    }
}

/// Adds `WITH` and the assertions of a write, if there are any: also those of the columns that are returned as they
/// are, and of the number of the relation's columns if all are returned.
pub(super) fn add_of_returned<'c>(
    sql: &mut Sql,
    relation: &QualifiedName,
    kind: &'c WriteKind,
    returned: impl Iterator<Item = &'c Column>,
    all: Option<&Relation>,
) {
    let written = written(kind);
    let is_written = |column: &Column| written.iter().any(|it| it.name == *column.name);
    let returned = returned.filter(|column| !is_written(column)).map(Typed::of_column);
    let mut typed = written.iter().filter_map(Typed::of).chain(returned).peekable();
    if typed.peek().is_none() && all.is_none() {
        return;
    }
    sql.assert(|sql| {
        sql.push("WITH ");
        columns_have_types(sql, relation, typed, if all.is_some() { ", " } else { " " });
        if let Some(all) = all {
            sql.push("pgrst_columns AS (").all_columns(all).push(") ");
        }
    });
}

/// The columns that a write writes.
fn written(kind: &WriteKind) -> &[TypedField] {
    match kind {
        WriteKind::Insert { columns, .. } | WriteKind::Update { columns, .. } => columns,
        WriteKind::Delete { .. } => &[],
    }
}

/// A column with the type it is expected to have.
struct Typed<'a> {
    name: &'a str,
    data_type: &'a str,
    is_array: bool,
}

impl<'a> Typed<'a> {
    /// A written column; a representation function determines the column's type.
    fn of(field: &'a TypedField) -> Option<Self> {
        let TypedField { name, data_type, is_array, transform, .. } = field;
        transform.is_none().then_some(Self { name, data_type, is_array: *is_array })
    }

    fn of_column(column: &'a Column) -> Self {
        let is_array = column.data_type.ends_with("[]");
        Self { name: &column.name, data_type: &column.argument_type, is_array }
    }
}

/// `array_eq` takes arrays of one type, without conversion.
fn columns_have_types<'a>(
    sql: &mut Sql,
    relation: &QualifiedName,
    columns: impl Iterator<Item = Typed<'a>>,
    end: &'static str,
) {
    let mut columns = columns.peekable();
    if columns.peek().is_none() {
        return;
    }
    sql.push("pgrst_types AS (SELECT ");
    sql.list(columns, ", ", |sql, column| {
        let is_array = column.data_type.ends_with("[]");
        sql.push(if is_array { "pg_catalog.array_eq(NULL::" } else { "pg_catalog.array_eq(ARRAY[NULL::" });
        sql.catalogue(column.data_type);
        sql.push(if is_array { ", (NULL::" } else { "], ARRAY[(NULL::" });
        sql.qualified(relation).push(").").name(column.name);
        sql.push(if is_array { ")" } else { "])" });
        if !is_array && !column.is_array {
            // an array of arrays has the same type as a one-dimensional array
            sql.push(", pg_catalog.textanycat('', (NULL::").qualified(relation).push(").").name(column.name);
            sql.push(")");
        }
    });
    sql.push(")").push(end);
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
