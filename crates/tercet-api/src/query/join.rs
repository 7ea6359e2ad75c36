//! Builds the FROM clause of a node and the join conditions with its parent.

use super::SOURCE;
use super::fragment::Sql;
use crate::plan::ReadNode;
use crate::schema::{Cardinality, Link, QualifiedName};

/// The FROM item of a node.
pub(super) fn from(sql: &mut Sql, node: &ReadNode) {
    sql.push(" FROM ");
    match node.embed.as_ref().map(|embed| (&embed.relationship.link, embed)) {
        // The row's type resolves the overload; it is lost if the parent's rows come from a CTE.
        Some((Link::Computed { function, .. }, embed)) => {
            sql.qualified(function).push("((").qualified(&embed.parent).push(".*)::");
            sql.qualified(&embed.relationship.source).push(")");
        }
        _ if node.from_source => {
            sql.push(SOURCE);
        }
        _ => {
            sql.qualified(&node.name);
        }
    }
    if let Some(alias) = &node.alias {
        sql.push(" AS ").name(alias);
    }
    if let Some(Link::Key { cardinality: Cardinality::ManyToMany(junction), .. }) =
        node.embed.as_ref().map(|embed| &embed.relationship.link)
    {
        sql.push(", ").qualified(&junction.relation);
    }
}

/// Equality of two columns.
pub(super) type JoinCondition = ((QualifiedName, String), (QualifiedName, String));

/// The join conditions of a node with its parent; empty for the target and for computed relationships.
pub(super) fn join_conditions(node: &ReadNode) -> Vec<JoinCondition> {
    let Some(embed) = &node.embed else { return Vec::new() };
    let own = node.qualifier();
    let equal = |left: &QualifiedName, a: &str, right: &QualifiedName, b: &str| {
        ((left.clone(), a.to_owned()), (right.clone(), b.to_owned()))
    };
    match &embed.relationship.link {
        Link::Computed { .. } => Vec::new(),
        Link::Key { cardinality: Cardinality::ManyToMany(junction), .. } => {
            let middle = &junction.relation;
            let target = junction.target_columns.iter().map(|(a, b)| equal(&own, a, middle, b));
            let source = junction.source_columns.iter().map(|(a, b)| equal(middle, b, &embed.parent, a));
            target.chain(source).collect()
        }
        Link::Key {
            cardinality:
                Cardinality::OneToMany(key) | Cardinality::ManyToOne(key) | Cardinality::OneToOne { key, .. },
            ..
        } => key.columns.iter().map(|(a, b)| equal(&own, b, &embed.parent, a)).collect(),
    }
}

/// Adds the join conditions.
pub(super) fn add_join_conditions(sql: &mut Sql, node: &ReadNode) {
    sql.list(join_conditions(node), " AND ", |sql, ((left, a), (right, b))| {
        sql.column(&left, &a).push(" = ").column(&right, &b);
    });
}
