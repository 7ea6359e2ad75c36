//! Whether embedded rows can be `json` instead of `jsonb`.
//!
//! PostgREST makes them `jsonb`, which parses and prints every value once more for each level. It is only needed where
//! rows are grouped, since `json` has no equality, and to keep one of two keys of the same name.

use crate::plan::{Handler, ReadNode, Shape, StatementPlan};

/// Whether all embedded rows of a plan can be `json`.
pub(super) fn may_be_json(plan: &StatementPlan) -> bool {
    matches!(plan.handler, Handler::Json | Handler::JsonStripped | Handler::Singular { .. })
        && !is_grouped(&plan.tree)
        && plan.tree.children.iter().all(has_distinct_keys)
}

fn is_grouped(node: &ReadNode) -> bool {
    let spread = |shape: &Shape| match shape {
        Shape::Object | Shape::Array => false,
        Shape::Spread(fields) | Shape::SpreadArrays(fields) => {
            fields.iter().any(|field| field.aggregate.is_some())
        }
    };
    node.select.iter().any(|selected| selected.aggregate.is_some())
        || node.embed.as_ref().is_some_and(|embed| spread(&embed.shape))
        || node.children.iter().any(is_grouped)
}

/// Whether the keys of a node's rows, and those of its embeddings, are distinct as far as is known here.
fn has_distinct_keys(node: &ReadNode) -> bool {
    let mut keys: Vec<&str> = Vec::new();
    for selected in &node.select {
        match (&selected.alias, selected.field.name.as_str()) {
            (Some(alias), _) => keys.push(alias),
            (None, "*") => match &node.relation {
                Some(relation) => keys.extend(relation.columns.iter().map(|column| &*column.name)),
                None => return false,
            },
            // PostgreSQL determines the name.
            (None, _) if selected.cast.is_some() || !selected.field.path.is_empty() => return false,
            (None, name) => keys.push(name),
        }
    }
    for child in &node.children {
        match child.embed.as_ref().map(|embed| (embed.shown_name(), &embed.shape)) {
            Some((_, Shape::Object | Shape::Array)) if child.selects_nothing() => {}
            Some((name, Shape::Object | Shape::Array)) => keys.push(name),
            Some((_, Shape::Spread(fields) | Shape::SpreadArrays(fields))) => {
                keys.extend(fields.iter().map(|field| field.alias.as_deref().unwrap_or(&field.name)));
            }
            None => {}
        }
    }
    keys.sort_unstable();
    let distinct = keys.windows(2).all(|pair| pair[0] != pair[1]);
    distinct && node.children.iter().all(has_distinct_keys)
}
