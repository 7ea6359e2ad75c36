//! Planning reads: the selection becomes a tree of relations; then filters, orders and ranges are attached to its
//! nodes.

use std::sync::Arc;

use super::filter::recognise_embeddings;
use super::{Embed, OrderKey, Planner, ReadNode, SelectedField, Shape, TypedField};
use crate::error::{ApiError, RequestError};
use crate::request::Action;
use crate::request::field::{EmbedPath, JsonOperand};
use crate::request::order::OrderTerm;
use crate::request::range::RowRange;
use crate::request::select::{AggregateFunction, SelectItem, SelectRelation};
use crate::schema::{LONGEST_NAME, QualifiedName, Relation};

/// A tree, and its aliased embeddings that were referred to by relation name.
type Planned = (ReadNode, Vec<(String, String)>);

/// The node of the target, with an empty selection.
pub(super) fn root(name: QualifiedName, relation: Option<Arc<Relation>>, from_source: bool) -> ReadNode {
    ReadNode {
        alias: from_source.then(|| name.name.to_string()),
        relation,
        name,
        from_source,
        select: Vec::new(),
        conditions: Vec::new(),
        order: Vec::new(),
        range: RowRange::ALL,
        embed: None,
        children: Vec::new(),
    }
}

impl Planner<'_> {
    pub(super) fn tree(self, mut root: ReadNode) -> Result<Planned, ApiError> {
        let parameters = &self.request.parameters;
        let writes = matches!(self.request.action, Action::Mutate { .. });
        self.select(&mut root, &parameters.select, 0)?;

        let mut deprecated = Vec::new();
        // Filters of a write apply to the write; all written rows are read.
        if !writes {
            for filter in &parameters.filters {
                root.conditions.push(self.condition(root.relation.as_deref(), filter));
            }
        }
        for (path, filter) in &parameters.embedded_filters {
            let node = self.at(&mut root, path, &mut deprecated)?;
            node.conditions.push(self.condition(node.relation.clone().as_deref(), filter));
        }
        for (path, tree) in parameters.logic.iter().filter(|(path, _)| !(writes && path.is_empty())) {
            let node = self.at(&mut root, path, &mut deprecated)?;
            node.conditions.push(self.logic(node.relation.clone().as_deref(), tree));
        }
        for (path, terms) in &parameters.order {
            let node = self.at(&mut root, path, &mut deprecated)?;
            node.order = terms.iter().map(|term| order_key(node, term)).collect::<Result<_, _>>()?;
        }
        if !writes {
            root.range = self.request.range;
            for (path, range) in &parameters.embedded_ranges {
                self.at(&mut root, path, &mut deprecated)?.range = *range;
            }
            self.cap_ranges(&mut root);
        }
        finish_conditions(&mut root);
        self.check_aggregates(&root)?;
        self.expand_stars(&mut root, false);
        add_aliases(&mut root);
        super::spread::arrange(&mut root, &mut 0)?;
        Ok((root, deprecated))
    }

    fn select(self, node: &mut ReadNode, items: &[SelectItem], depth: usize) -> Result<(), ApiError> {
        for item in items {
            match item {
                SelectItem::Field(selected) => node.select.push(SelectedField {
                    field: self.output_field(node.relation.as_deref(), &selected.field),
                    cast: selected.cast.clone(),
                    aggregate: selected.aggregate.clone(),
                    alias: selected.alias.clone(),
                }),
                SelectItem::Relation(relation) => {
                    let child = self.embedded(node, relation, false, depth + 1)?;
                    node.children.push(child);
                }
                SelectItem::Spread(relation) => {
                    let child = self.embedded(node, relation, true, depth + 1)?;
                    node.children.push(child);
                }
            }
        }
        Ok(())
    }

    fn embedded(
        self,
        parent: &ReadNode,
        selected: &SelectRelation,
        spread: bool,
        depth: usize,
    ) -> Result<ReadNode, ApiError> {
        let relationship = self.relationship(&parent.name, &selected.name, selected.hint.as_deref())?;
        let target = &relationship.target;
        let shape = match (spread, relationship.is_to_one()) {
            (false, true) => Shape::Object,
            (false, false) => Shape::Array,
            (true, true) => Shape::Spread(Vec::new()),
            (true, false) => Shape::SpreadArrays(Vec::new()),
        };
        let shown = selected.alias.as_deref().unwrap_or(&selected.name);
        let mut node = ReadNode {
            relation: self.cache.relation(&target.schema, &target.name).cloned(),
            name: target.clone(),
            from_source: false,
            alias: Some(alias(&target.name, &depth.to_string())),
            select: Vec::new(),
            conditions: Vec::new(),
            order: Vec::new(),
            range: RowRange::ALL,
            embed: Some(Embed {
                parent: parent.qualifier(),
                name: selected.name.clone(),
                alias: selected.alias.clone(),
                join: selected.join,
                join_alias: alias(&relationship.source.name, &format!("{shown}_{depth}")),
                shape,
                relationship,
            }),
            children: Vec::new(),
        };
        self.select(&mut node, &selected.items, depth)?;
        Ok(node)
    }

    /// The node at a path of embeddings.
    fn at<'n>(
        self,
        root: &'n mut ReadNode,
        path: &EmbedPath,
        deprecated: &mut Vec<(String, String)>,
    ) -> Result<&'n mut ReadNode, ApiError> {
        let mut node = root;
        for name in path {
            let found = node.children.iter().position(|child| {
                child.embed.as_ref().is_some_and(|embed| {
                    embed.shown_name() == name || self.policy.legacy_target_names && embed.name == *name
                })
            });
            let Some(position) = found else { return Err(not_embedded(node, name)) };
            node = &mut node.children[position];
            if let Some(Embed { name: own, alias: Some(alias), .. }) = &node.embed
                && own == name
                && alias != name
            {
                let use_of = (own.clone(), alias.clone());
                if !deprecated.contains(&use_of) {
                    deprecated.push(use_of);
                }
            }
        }
        Ok(node)
    }

    fn cap_ranges(self, node: &mut ReadNode) {
        node.range = node.range.at_most(self.policy.max_rows);
        for child in &mut node.children {
            self.cap_ranges(child);
        }
    }

    fn check_aggregates(self, node: &ReadNode) -> Result<(), ApiError> {
        if !self.policy.aggregates && node.select.iter().any(|selected| selected.aggregate.is_some()) {
            return Err(RequestError::Aggregates.into());
        }
        node.children.iter().try_for_each(|child| self.check_aggregates(child))
    }

    /// Expands `*` where each column must be named: for a JSON representation, in GROUP BY, in an array aggregate.
    fn expand_stars(self, node: &mut ReadNode, above: bool) {
        let shape = node.embed.as_ref().map(|embed| &embed.shape);
        let spread = matches!(shape, Some(Shape::Spread(_) | Shape::SpreadArrays(_)));
        let each = above
            || matches!(shape, Some(Shape::SpreadArrays(_)))
            || spread && node.select.len() + node.children.len() > 1
            || folds(node);
        if let Some(relation) = node.relation.clone() {
            let shown = |column| self.shown(TypedField::column(column));
            let represented = relation.columns.iter().any(|column| self.is_represented(column));
            if each || represented {
                node.select = node
                    .select
                    .drain(..)
                    .flat_map(|selected| match &selected.aggregate {
                        None if selected.field.name == "*" && selected.field.path.is_empty() => relation
                            .columns
                            .iter()
                            .map(|column| SelectedField { field: shown(column), ..selected.clone() })
                            .collect(),
                        _ => vec![selected],
                    })
                    .collect();
            }
        }
        for selected in &mut node.select {
            let counts = selected.aggregate.as_ref().is_some_and(|a| a.function == AggregateFunction::Count);
            selected.field.whole_row = spread && counts && selected.field.name == "*";
        }
        for child in &mut node.children {
            self.expand_stars(child, each);
        }
    }
}

fn order_key(node: &ReadNode, term: &OrderTerm) -> Result<OrderKey, ApiError> {
    let (joined, field) = match &term.relation {
        None => (None, TypedField::of(node.relation.as_deref(), &term.field)),
        Some(name) => {
            let embed = node
                .children
                .iter()
                .filter_map(|child| child.embed.as_ref())
                .find(|embed| embed.shown_name() == name)
                .ok_or_else(|| RequestError::NotEmbedded(name.clone()))?;
            if !embed.relationship.is_to_one() {
                let origin = node.name.name.to_string();
                return Err(RequestError::RelatedOrder { origin, target: name.clone() }.into());
            }
            (Some(embed.join_alias.clone()), TypedField::unknown(&term.field))
        }
    };
    Ok(OrderKey { joined, field, direction: term.direction, nulls: term.nulls })
}

/// Whether the node's rows are grouped: the node, or a to-one spread in it, has an aggregate.
fn folds(node: &ReadNode) -> bool {
    let spread = |child: &&ReadNode| matches!(&child.embed, Some(Embed { shape: Shape::Spread(_), .. }));
    node.select.iter().any(|selected| selected.aggregate.is_some())
        || node.children.iter().filter(spread).any(folds)
}

fn finish_conditions(node: &mut ReadNode) {
    recognise_embeddings(&mut node.conditions, &node.children);
    node.children.iter_mut().for_each(finish_conditions);
}

/// JSON path steps and JSON representations lose the column's name in SQL: add it as an alias.
fn add_aliases(node: &mut ReadNode) {
    for selected in node.select.iter_mut().filter(|selected| selected.alias.is_none()) {
        if selected.aggregate.is_none() {
            selected.alias = if !selected.field.path.is_empty() {
                Some(last_key(&selected.field))
            } else if selected.field.transform.is_some() {
                Some(selected.field.name.clone())
            } else {
                None
            };
        }
    }
    node.children.iter_mut().for_each(add_aliases);
}

/// The default name of a JSON path: `data->a->1` is named `a`, `data->1` is named `data`.
fn last_key(field: &TypedField) -> String {
    let key = field.path.iter().rev().find_map(|step| match &step.operand {
        JsonOperand::Key(key) => Some(key),
        JsonOperand::Index(_) => None,
    });
    key.unwrap_or(&field.name).clone()
}

fn not_embedded(node: &ReadNode, name: &str) -> ApiError {
    let alias = node
        .children
        .iter()
        .filter_map(|child| child.embed.as_ref())
        .find(|embed| embed.name == name)
        .and_then(|embed| embed.alias.clone());
    match alias {
        Some(alias) => RequestError::EmbeddedUnderAlias { name: name.to_owned(), alias }.into(),
        None => RequestError::NotEmbedded(name.to_owned()).into(),
    }
}

/// An alias within PostgreSQL's identifier length.
fn alias(name: &str, suffix: &str) -> String {
    let whole = format!("{name}_{suffix}");
    if whole.len() <= LONGEST_NAME {
        return whole;
    }
    let hash = std::hash::BuildHasher::hash_one(&rustc_hash::FxBuildHasher, &whole);
    format!("pgrst_{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_of_the_longest_names_are_distinct() {
        let long = "annotations_that_readers_have_written_into_margins_of_books_";
        let (one, two) = (alias(&format!("{long}one"), "1"), alias(&format!("{long}two"), "1"));
        assert_ne!(one, two);
        assert!(one.len() <= LONGEST_NAME && two.len() <= LONGEST_NAME);
        assert_eq!(alias("books", "tags_1"), "books_tags_1");
    }
}
