//! The read tree: a node for the target and one for each embedding.

use std::sync::Arc;

use super::{Condition, TypedField};
use crate::request::order::{Direction, Nulls};
use crate::request::range::RowRange;
use crate::request::select::{Aggregate, JoinType};
use crate::schema::{QualifiedName, Relation, Relationship};

/// A relation to read, with its embeddings.
#[derive(Debug)]
pub struct ReadNode {
    /// The relation, if it is in the schema cache.
    pub relation: Option<Arc<Relation>>,
    /// Its name.
    pub name: QualifiedName,
    /// Whether the rows are those written or returned by the command, not the relation's.
    pub from_source: bool,
    /// Its alias in the statement; the relation's name if absent.
    pub alias: Option<String>,
    /// Columns and aggregates.
    pub select: Vec<SelectedField>,
    /// Conditions combined with AND.
    pub conditions: Vec<Condition>,
    /// Keys of the order, most significant first.
    pub order: Vec<OrderKey>,
    /// Limit and offset.
    pub range: RowRange,
    /// The join with the parent; `None` for the target.
    pub embed: Option<Embed>,
    /// Its embeddings.
    pub children: Vec<ReadNode>,
}

/// The join of an embedding with its parent.
#[derive(Debug)]
pub struct Embed {
    /// The relationship.
    pub relationship: Arc<Relationship>,
    /// The parent's name in the statement.
    pub parent: QualifiedName,
    /// The name in the selection.
    pub name: String,
    /// The client's alias.
    pub alias: Option<String>,
    /// Whether parent rows without related rows are kept.
    pub join: Option<JoinType>,
    /// The alias of the joined rows in the statement.
    pub join_alias: String,
    /// Its form in the parent's rows.
    pub shape: Shape,
}

impl Embed {
    /// The name in the result and in filters.
    pub fn shown_name(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.name)
    }
}

/// The form of an embedding in its parent's rows.
#[derive(Debug)]
pub enum Shape {
    /// One JSON object, or null.
    Object,
    /// A JSON array.
    Array,
    /// Its columns as columns of the parent.
    Spread(Vec<SpreadField>),
    /// Its columns as columns of the parent, each an array of all rows' values.
    SpreadArrays(Vec<SpreadField>),
}

/// A column of a spread embedding in the parent's selection.
#[derive(Clone, Debug)]
pub struct SpreadField {
    /// The column's name in the joined rows.
    pub name: String,
    /// The parent's aggregate over the column, moved up from the spread.
    pub aggregate: Option<Aggregate>,
    /// The name in the result, if different.
    pub alias: Option<String>,
}

/// A selected column, or an aggregate over one.
#[derive(Clone, Debug)]
pub struct SelectedField {
    /// The column.
    pub field: TypedField,
    /// The cast before aggregation.
    pub cast: Option<String>,
    /// The aggregate.
    pub aggregate: Option<Aggregate>,
    /// The name in the result, if different.
    pub alias: Option<String>,
}

/// An ORDER BY key.
#[derive(Clone, Debug)]
pub struct OrderKey {
    /// The alias of the to-one embedding the field belongs to.
    pub joined: Option<String>,
    /// The field.
    pub field: TypedField,
    /// The direction; ascending if absent.
    pub direction: Option<Direction>,
    /// The position of nulls; PostgreSQL's default if absent.
    pub nulls: Option<Nulls>,
}

impl ReadNode {
    /// The qualifier of its columns in the statement.
    pub fn qualifier(&self) -> QualifiedName {
        match &self.alias {
            Some(alias) => QualifiedName::local(alias.as_str()),
            None => self.name.clone(),
        }
    }

    /// Whether nothing is selected, including in embeddings: the node only filters.
    pub fn selects_nothing(&self) -> bool {
        self.select.is_empty() && self.children.iter().all(Self::selects_nothing)
    }

    /// Whether exactly all columns are selected.
    pub fn selects_everything(&self) -> bool {
        self.children.is_empty() && matches!(self.select.as_slice(), [only] if only.field.name == "*")
    }
}
