//! The statement of a read.

use super::fragment::Sql;
use super::{BODY_ROWS, SOURCE, body, count, node};
use crate::plan::StatementPlan;

/// The statement of a read.
pub(super) fn statement(sql: &mut Sql, plan: &StatementPlan) {
    sql.push("WITH ").push(SOURCE).push(" AS (");
    node::rows(sql, &plan.tree);
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
    sql.push(" FROM (SELECT * FROM ").push(SOURCE).push(") ").push(BODY_ROWS);
}
