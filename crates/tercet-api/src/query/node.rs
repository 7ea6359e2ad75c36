//! The rows of a node of the read tree, with all embeddings.

use super::condition::{condition, field, joined_presence};
use super::fragment::Sql;
use super::join::{add_join_conditions, from, join_conditions};
use crate::plan::{Embed, OrderKey, ReadNode, SelectedField, Shape, SpreadField};
use crate::request::order::{Direction, Nulls};
use crate::request::select::{Aggregate, AggregateFunction, JoinType};
use crate::schema::QualifiedName;

/// The rows of a node.
pub(super) fn rows(sql: &mut Sql, node: &ReadNode) {
    let qualifier = node.qualifier();
    sql.push("SELECT ");
    selection(sql, node, &qualifier);
    from(sql, node);
    for child in &node.children {
        join(sql, child);
    }
    let joins = !join_conditions(node).is_empty();
    if joins || !node.conditions.is_empty() {
        sql.push(" WHERE ");
        sql.list(&node.conditions, " AND ", |sql, it| condition(sql, &qualifier, it, &joined_presence));
        if joins && !node.conditions.is_empty() {
            sql.push(" AND ");
        }
        add_join_conditions(sql, node);
    }
    group(sql, node);
    order(sql, &qualifier, &node.order);
    if !node.range.is_all() {
        sql.push(" LIMIT ");
        match node.range.limit {
            Some(limit) => sql.value(limit.to_string()),
            None => sql.push("ALL"),
        };
        sql.push(" OFFSET ").value(node.range.offset.to_string());
    }
}

/// The select list, in order: columns, then embeddings. Each item records whether rows are grouped by it.
fn selection(sql: &mut Sql, node: &ReadNode, qualifier: &QualifiedName) {
    if node.select.is_empty() && node.children.is_empty() {
        sql.column(qualifier, "*");
        return;
    }
    let mut first = true;
    let mut separate = |sql: &mut Sql| {
        if !first {
            sql.push(", ");
        }
        first = false;
    };
    for selected in &node.select {
        separate(sql);
        select_field(sql, qualifier, selected);
    }
    for child in &node.children {
        let Some(embed) = &child.embed else { continue };
        match &embed.shape {
            Shape::Object | Shape::Array if child.selects_nothing() => {}
            Shape::Object => {
                separate(sql);
                sql.push("row_to_json(").name(&embed.join_alias).push(".*)").embedded();
                sql.push(" AS ").name(embed.shown_name());
            }
            Shape::Array => {
                separate(sql);
                sql.push("COALESCE(").name(&embed.join_alias).push(".").name(&embed.join_alias);
                sql.push(", '[]') AS ").name(embed.shown_name());
            }
            Shape::Spread(fields) => {
                for spread in fields {
                    separate(sql);
                    spread_field(sql, &embed.join_alias, spread);
                }
            }
            Shape::SpreadArrays(fields) => {
                for spread in fields {
                    separate(sql);
                    sql.push("COALESCE(").name(&embed.join_alias).push(".").name(&spread.name);
                    sql.push(", '[]') AS ").name(spread.alias.as_ref().unwrap_or(&spread.name));
                }
            }
        }
    }
}

fn select_field(sql: &mut Sql, qualifier: &QualifiedName, selected: &SelectedField) {
    let value = |sql: &mut Sql| {
        with_cast(sql, selected.cast.as_deref(), |sql| match &selected.field.transform {
            None => field(sql, qualifier, &selected.field),
            Some(transform) => {
                sql.catalogue(transform).push("(");
                field(sql, qualifier, &selected.field);
                sql.push(")");
            }
        });
    };
    with_aggregate(sql, selected.aggregate.as_ref(), value);
    if let Some(alias) = &selected.alias {
        sql.push(" AS ").name(alias);
    }
}

fn spread_field(sql: &mut Sql, join_alias: &str, spread: &SpreadField) {
    let joined = QualifiedName::local(join_alias);
    with_aggregate(sql, spread.aggregate.as_ref(), |sql| {
        sql.column(&joined, &spread.name);
    });
    if let Some(alias) = &spread.alias {
        sql.push(" AS ").name(alias);
    }
}

fn with_aggregate(sql: &mut Sql, aggregate: Option<&Aggregate>, value: impl Fn(&mut Sql)) {
    let Some(aggregate) = aggregate else { return value(sql) };
    with_cast(sql, aggregate.cast.as_deref(), |sql| {
        sql.push(match aggregate.function {
            AggregateFunction::Sum => "SUM(",
            AggregateFunction::Avg => "AVG(",
            AggregateFunction::Count => "COUNT(",
            AggregateFunction::Max => "MAX(",
            AggregateFunction::Min => "MIN(",
        });
        value(sql);
        sql.push(")");
    });
}

fn with_cast(sql: &mut Sql, cast: Option<&str>, value: impl Fn(&mut Sql)) {
    let Some(cast) = cast else { return value(sql) };
    sql.push("CAST(");
    value(sql);
    sql.push(" AS ").cast_type(cast).push(")");
}

/// The lateral join of an embedding.
fn join(sql: &mut Sql, child: &ReadNode) {
    let Some(embed) = &child.embed else { return };
    let inner = embed.join == Some(JoinType::Inner);
    sql.push(if inner { " INNER JOIN LATERAL (" } else { " LEFT JOIN LATERAL (" });
    let gathered = match &embed.shape {
        Shape::Object | Shape::Spread(_) => {
            rows(sql, child);
            false
        }
        Shape::Array => {
            gather(sql, embed, &[]);
            sql.push(" FROM (");
            rows(sql, child);
            sql.push(") AS ").name(&embed.join_alias);
            true
        }
        Shape::SpreadArrays(fields) => {
            gather(sql, embed, fields);
            sql.push(" FROM (");
            rows(sql, child);
            sql.push(") AS ").name(&embed.join_alias);
            true
        }
    };
    sql.push(") AS ").name(&embed.join_alias);
    if inner && gathered {
        sql.push(" ON ").name(&embed.join_alias).push(" IS NOT NULL");
    } else {
        sql.push(" ON TRUE");
    }
}

/// All rows as one JSON array under the join's alias, and the values of each spread field as another.
fn gather(sql: &mut Sql, embed: &Embed, fields: &[SpreadField]) {
    sql.push("SELECT json_agg(").name(&embed.join_alias).push(")").embedded();
    sql.push(" AS ").name(&embed.join_alias);
    for spread in fields {
        sql.push(", json_agg(").name(&embed.join_alias).push(".").name(&spread.name).push(")").embedded();
        sql.push(" AS ").name(&spread.name);
    }
}

/// GROUP BY all selected items without an aggregate, if there is one. By position: PostgreSQL does not recognise an
/// expression with parameters as the same.
fn group(sql: &mut Sql, node: &ReadNode) {
    let mut folded: Vec<bool> = node.select.iter().map(|selected| selected.aggregate.is_some()).collect();
    for child in &node.children {
        match child.embed.as_ref().map(|embed| &embed.shape) {
            Some(Shape::Object | Shape::Array) if child.selects_nothing() => {}
            Some(Shape::Object | Shape::Array) => folded.push(false),
            Some(Shape::Spread(fields) | Shape::SpreadArrays(fields)) => {
                folded.extend(fields.iter().map(|field| field.aggregate.is_some()));
            }
            None => {}
        }
    }
    let keys: Vec<usize> =
        folded.iter().enumerate().filter(|(_, folded)| !**folded).map(|(index, _)| index + 1).collect();
    if folded.contains(&true) && !keys.is_empty() {
        sql.push(" GROUP BY ").list(keys, ", ", |sql, key| {
            sql.number(key);
        });
    }
}

fn order(sql: &mut Sql, qualifier: &QualifiedName, keys: &[OrderKey]) {
    if keys.is_empty() {
        return;
    }
    sql.push(" ORDER BY ").list(keys, ", ", |sql, key| {
        match &key.joined {
            None => field(sql, qualifier, &key.field),
            Some(joined) => field(sql, &QualifiedName::local(joined.as_str()), &key.field),
        }
        match key.direction {
            Some(Direction::Ascending) => sql.push(" ASC"),
            Some(Direction::Descending) => sql.push(" DESC"),
            None => sql,
        };
        match key.nulls {
            Some(Nulls::First) => sql.push(" NULLS FIRST"),
            Some(Nulls::Last) => sql.push(" NULLS LAST"),
            None => sql,
        };
    });
}
