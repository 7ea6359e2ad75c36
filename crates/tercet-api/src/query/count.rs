//! Counting: how many rows there are when limits are left aside.

use super::SOURCE;
use super::condition::condition;
use super::fragment::Sql;
use super::join::{add_join_conditions, from};
use crate::plan::{Command, ReadNode, StatementPlan};
use crate::request::preferences::Count;
use crate::request::select::JoinType;

/// How the total of a statement is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Total {
    /// It is not.
    Unknown,
    /// All rows are in the answer.
    Page,
    /// By a query of its own, [`source`], which stops at so many rows.
    Counted { stop: Option<i64> },
}

impl Total {
    /// A count that is given up for an estimate when there are more rows than the cap on rows stops one row above
    /// it; without a cap there is only the estimate. What a routine returns is never estimated.
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

/// The number of rows in the answer. A routine that returns one value has one; its body need not be an
/// aggregate, so nothing beside it may be one.
pub(super) fn page(sql: &mut Sql, plan: &StatementPlan) {
    match plan.routine() {
        Some(routine) if !routine.returns_set => sql.push("1"),
        _ => sql.push("pg_catalog.count(*)"),
    };
}

/// Adds the query that counts, if one is needed.
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

/// One row for each of a node's rows, limits aside. Inner joins and conditions on embeddings are asked as
/// EXISTS: nothing needs to be joined.
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
