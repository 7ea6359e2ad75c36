//! Writes: INSERT, UPDATE, DELETE, and the selection from the written rows.

use super::condition::{condition, joined_presence};
use super::fragment::Sql;
use super::payload::{self, Reading};
use super::rows::{Returned, returned};
use super::{BODY_ROWS, Form, SOURCE, assertion, body, node};
use crate::plan::{Condition, Conflict, StatementPlan, TypedField, WriteKind, WritePlan};
use crate::request::preferences::Resolution;
use crate::schema::QualifiedName;

/// Counts a row as inserted before the insert; true for every row.
const INSERTING: &str = "set_config('pgrst.inserted', (coalesce(nullif(current_setting('pgrst.inserted', true), '')::int, 0) + 1)::text, true) <> '0'";

/// Subtracts it again if the row exists; true for every row.
const UPDATING: &str = "set_config('pgrst.inserted', (coalesce(nullif(current_setting('pgrst.inserted', true), '')::int, 0) - 1)::text, true) <> '-1'";

/// The statement of a write without side effects, which cannot set the response: the command by itself. `None`, with
/// `sql` unchanged, if more is answered than the number of written rows, or than their own columns.
pub(super) fn plain(sql: &mut Sql, plan: &StatementPlan, write: &WritePlan) -> Option<Form> {
    let is_command = match &write.kind {
        // The inserted rows are counted.
        WriteKind::Insert { conflict, .. } => {
            conflict.as_ref().is_none_or(|it| it.resolution != Resolution::MergeDuplicates)
        }
        WriteKind::Update { columns, .. } => !columns.is_empty(),
        WriteKind::Delete { .. } => true,
    };
    // The columns that `return=headers-only` names need the privilege to select them, and policies for SELECT.
    let is_read = !write.returns_rows && !write.returning.is_empty();
    if !plan.side_effect_free || plan.explains() || !is_command || write.returns_location || is_read {
        return None;
    }
    let returned = if write.returns_rows { Some(returned(plan)?) } else { None };
    // The same for the primary key where it is not selected.
    if returned.as_ref().is_some_and(|returned| !returned.includes(&write.returning)) {
        return None;
    }
    let columns = returned.iter().flat_map(Returned::plain);
    let all = returned.as_ref().and_then(Returned::all);
    assertion::add_of_returned(sql, &write.relation, &write.kind, columns, all);
    command(sql, write);
    Some(match returned {
        Some(returned) => Form::Rows(returned.add(sql, &write.relation)),
        None => Form::Count,
    })
}

/// The statement of a write.
pub(super) fn statement(sql: &mut Sql, plan: &StatementPlan, write: &WritePlan) {
    sql.push("WITH ");
    assertion::add(sql, plan);
    sql.push(SOURCE).push(" AS (");
    command(sql, write);
    returning(sql, write);
    sql.push(") SELECT '' AS total_result_set, pg_catalog.count(*) AS page_total, ");
    location(sql, write);
    sql.push(" AS header, ");
    body::add(sql, plan);
    sql.push(" AS body, ");
    body::response_settings(sql);
    sql.push(", nullif(current_setting('pgrst.inserted', true), '')::int AS response_inserted FROM (");
    if write.returns_rows {
        node::rows(sql, &plan.tree);
    } else {
        sql.push("SELECT * FROM ").push(SOURCE);
    }
    sql.push(") ").push(BODY_ROWS);
}

fn command(sql: &mut Sql, write: &WritePlan) {
    match &write.kind {
        WriteKind::Insert { columns, body, conflict, conditions, defaults } => {
            sql.push("INSERT INTO ").qualified(&write.relation);
            if columns.is_empty() {
                sql.push(" ");
            } else {
                sql.push("(")
                    .list(columns, ", ", |sql, it| {
                        sql.name(&it.name);
                    })
                    .push(") ");
            }
            sql.push("SELECT ").list(columns, ", ", |sql, it| {
                sql.push("pgrst_body.").name(&it.name);
            });
            sql.push(" ");
            payload::add(sql, body, columns, Reading { defaults: *defaults, first_only: false });
            insert_conditions(sql, conflict.as_ref(), conditions);
            if let Some(conflict) = conflict {
                on_conflict(sql, conflict, columns);
            }
        }
        // UPDATE requires columns: an empty result with the same columns replaces it.
        WriteKind::Update { columns, .. } if columns.is_empty() => {
            sql.push("SELECT ");
            let relation = QualifiedName::local(write.relation.name.clone());
            if write.returning.is_empty() {
                sql.push("NULL");
            }
            sql.list(&write.returning, ", ", |sql, it| {
                sql.column(&relation, it);
            });
            sql.push(" FROM ").qualified(&write.relation).push(" WHERE false");
        }
        WriteKind::Update { columns, body, conditions, defaults } => {
            sql.push("UPDATE ").qualified(&write.relation).push(" SET ");
            sql.list(columns, ", ", |sql, it| {
                sql.name(&it.name).push(" = pgrst_body.").name(&it.name);
            });
            sql.push(" ");
            payload::add(sql, body, columns, Reading { defaults: *defaults, first_only: false });
            filter(sql, &write.relation, conditions);
        }
        WriteKind::Delete { conditions } => {
            sql.push("DELETE FROM ").qualified(&write.relation).push(" ");
            filter(sql, &write.relation, conditions);
        }
    }
}

fn insert_conditions(sql: &mut Sql, conflict: Option<&Conflict>, conditions: &[Condition]) {
    if !conflict.is_some_and(|it| it.resolution == Resolution::MergeDuplicates) {
        return;
    }
    let body = QualifiedName::local("pgrst_body");
    sql.push("WHERE ").push(INSERTING);
    for it in conditions {
        sql.push(" AND ");
        condition(sql, &body, it, &joined_presence);
    }
}

fn on_conflict(sql: &mut Sql, conflict: &Conflict, columns: &[TypedField]) {
    if conflict.columns.is_empty() {
        return;
    }
    sql.push(" ON CONFLICT(")
        .list(&conflict.columns, ", ", |sql, it| {
            sql.name(it);
        })
        .push(") ");
    if conflict.resolution == Resolution::IgnoreDuplicates || columns.is_empty() {
        sql.push("DO NOTHING");
        return;
    }
    sql.push("DO UPDATE SET ").list(columns, ", ", |sql, it| {
        sql.name(&it.name).push(" = EXCLUDED.").name(&it.name);
    });
    sql.push(" WHERE ").push(UPDATING);
}

fn filter(sql: &mut Sql, relation: &QualifiedName, conditions: &[Condition]) {
    if !conditions.is_empty() {
        sql.push("WHERE ")
            .list(conditions, " AND ", |sql, it| condition(sql, relation, it, &joined_presence));
    }
}

fn returning(sql: &mut Sql, write: &WritePlan) {
    if matches!(&write.kind, WriteKind::Update { columns, .. } if columns.is_empty()) {
        return;
    }
    if write.returning.is_empty() {
        // to count the rows
        sql.push(" RETURNING 1");
    } else {
        sql.push(" RETURNING ").list(&write.returning, ", ", |sql, it| {
            sql.column(&write.relation, it);
        });
    }
}

/// The primary key of the single new row, as JSON pairs.
fn location(sql: &mut Sql, write: &WritePlan) {
    if !write.returns_location || write.primary_key.is_empty() {
        sql.push("null");
        return;
    }
    sql.push(
        "CASE WHEN pg_catalog.count(*) = 1 THEN (WITH data AS (SELECT row_to_json(_) AS row FROM pgrst_source AS _ LIMIT 1) \
         SELECT json_agg(json_build_array(json_data.key, json_data.value)) \
         FROM data CROSS JOIN json_each_text(data.row) AS json_data WHERE json_data.key IN (",
    );
    sql.list(&write.primary_key, ", ", |sql, it| {
        sql.constant(it);
    });
    sql.push(")) END");
}
