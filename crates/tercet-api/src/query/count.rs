//! Counts: the total number of rows without limits.

use super::SOURCE;
use super::condition::condition;
use super::fragment::Sql;
use super::join::{add_join_conditions, from};
use crate::plan::{Command, ReadNode, StatementPlan};
use crate::request::preferences::Count;
use crate::request::select::JoinType;

/// How the total is determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Total {
    /// Not counted.
    Unknown,
    /// All rows are in the answer.
    Page,
    /// By a subquery, [`source`], up to this many rows.
    Counted { stop: Option<i64> },
}

impl Total {
    /// An estimated count counts up to one row above the limit on rows; without a limit only the estimate is used.
    /// Results of routines are never estimated.
    pub(super) fn of(plan: &StatementPlan) -> Self {
        let reads = matches!(plan.command, Command::Read);
        let stop = match (plan.count, plan.max_rows) {
            (Some(Count::Exact), _) => None,
            (Some(Count::Estimated), _) if !reads => None,
            (Some(Count::Estimated), Some(cap)) => Some(cap.saturating_add(1)),
            (Some(Count::Estimated | Count::Planned) | None, _) => return Self::Unknown,
        };
        if plan.tree.range.is_all() { Self::Page } else { Self::Counted { stop } }
    }

    pub(super) fn add(self, sql: &mut Sql, plan: &StatementPlan) {
        match self {
            Self::Unknown => {
                sql.push("null::bigint");
            }
            Self::Page => page(sql, plan),
            Self::Counted { .. } => {
                sql.push("(SELECT pg_catalog.count(*) FROM ").push(SOURCE).push("_count)");
            }
        }
    }
}

/// The number of rows in the answer. A routine that returns one value has one row; its body need not be an aggregate,
/// so no aggregate may be beside it.
pub(super) fn page(sql: &mut Sql, plan: &StatementPlan) {
    match plan.routine() {
        Some(routine) if !routine.returns_set => sql.push("1"),
        _ => sql.push("pg_catalog.count(*)"),
    };
}

/// Adds the counting subquery, if needed.
pub(super) fn source(sql: &mut Sql, plan: &StatementPlan) -> Total {
    let total = Total::of(plan);
    if let Total::Counted { stop } = total {
        sql.push(", ").push(SOURCE).push("_count AS (");
        rows(sql, &plan.tree);
        if let Some(stop) = stop {
            sql.push(" LIMIT ").number(usize::try_from(stop).unwrap_or(usize::MAX));
        }
        sql.push(")");
    }
    total
}

/// One row for each of the node's rows, without limits. Inner joins and conditions on embeddings are tested with
/// EXISTS instead of a join.
pub(super) fn rows(sql: &mut Sql, node: &ReadNode) {
    let qualifier = node.qualifier();
    let presence = |sql: &mut Sql, join_alias: &str, present: bool| {
        let named =
            |child: &&ReadNode| child.embed.as_ref().is_some_and(|embed| embed.join_alias == join_alias);
        let Some(child) = node.children.iter().find(named) else { return };
        sql.push(if present { "EXISTS (" } else { "NOT EXISTS (" });
        rows(sql, child);
        sql.push(")");
    };
    let inner =
        |child: &&ReadNode| child.embed.as_ref().is_some_and(|embed| embed.join == Some(JoinType::Inner));
    let required: Vec<&ReadNode> = node.children.iter().filter(inner).collect();

    sql.push("SELECT 1");
    from(sql, node);
    let mut any = false;
    let mut separate = |sql: &mut Sql| {
        sql.push(if any { " AND " } else { " WHERE " });
        any = true;
    };
    for it in &node.conditions {
        separate(sql);
        condition(sql, &qualifier, it, &presence);
    }
    if node.embed.as_ref().is_some_and(|embed| embed.relationship.source_columns().is_some()) {
        separate(sql);
        add_join_conditions(sql, node);
    }
    for child in required {
        separate(sql);
        sql.push("EXISTS (");
        rows(sql, child);
        sql.push(")");
    }
}
