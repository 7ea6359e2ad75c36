//! Filters and logic trees as conditions on typed fields.

use super::resolve::TextSearch;
use super::{Condition, Planner, ReadNode};
use crate::request::filter::{Filter, IsValue, Operation};
use crate::request::logic::LogicTree;
use crate::schema::Relation;

impl Planner<'_> {
    pub(super) fn condition(self, relation: Option<&Relation>, filter: &Filter) -> Condition {
        let text_search = match &filter.operation {
            Operation::FullText { language, .. } => Some(TextSearch { language: language.clone() }),
            _ => None,
        };
        Condition::Comparison {
            field: self.compared_field(relation, &filter.field, text_search),
            negated: filter.negated,
            operation: filter.operation.clone(),
        }
    }

    pub(super) fn logic(self, relation: Option<&Relation>, tree: &LogicTree) -> Condition {
        match tree {
            LogicTree::Leaf(filter) => self.condition(relation, filter),
            LogicTree::Branch { negated, operator, branches } => Condition::Branch {
                negated: *negated,
                operator: *operator,
                branches: branches.iter().map(|branch| self.logic(relation, branch)).collect(),
            },
        }
    }
}

/// `embedding=is.null` and `embedding=not.is.null` test the embedding's rows, not a column.
pub(super) fn recognise_embeddings(conditions: &mut [Condition], children: &[ReadNode]) {
    for condition in conditions {
        match condition {
            Condition::Branch { branches, .. } => recognise_embeddings(branches, children),
            Condition::Comparison { field, negated, operation: Operation::Is(IsValue::Null) }
                if field.path.is_empty() =>
            {
                let named = children
                    .iter()
                    .filter_map(|child| child.embed.as_ref())
                    .find(|embed| embed.shown_name() == field.name);
                if let Some(embed) = named {
                    *condition =
                        Condition::Embedded { join_alias: embed.join_alias.clone(), present: *negated };
                }
            }
            _ => {}
        }
    }
}
