//! The tree of what is read: a node for the target and one for every embedding.

use std::sync::Arc;

use super::{Condition, TypedField};
use crate::request::order::{Direction, Nulls};
use crate::request::range::RowRange;
use crate::request::select::{Aggregate, JoinType};
use crate::schema::{QualifiedName, Relation, Relationship};

/// A relation that is read, and everything embedded in it.
#[derive(Debug)]
pub struct ReadNode {
    /// The relation as far as the schema cache knows it.
    pub relation: Option<Arc<Relation>>,
    /// Its name.
    pub name: QualifiedName,
    /// Whether its rows are those just written or returned, not the relation's own.
    pub from_source: bool,
    /// What it is called in the statement; by its own name when absent.
    pub alias: Option<String>,
    /// Columns and aggregates.
    pub select: Vec<SelectedField>,
    /// Conditions that must all hold.
    pub conditions: Vec<Condition>,
    /// Keys of the order, most significant first.
    pub order: Vec<OrderKey>,
    /// Which rows.
    pub range: RowRange,
    /// How it hangs on its parent; none for the target.
    pub embed: Option<Embed>,
    /// What is embedded in it.
    pub children: Vec<ReadNode>,
}

/// How an embedded relation hangs on the one it is embedded in.
#[derive(Debug)]
pub struct Embed {
    /// By what it is found.
    pub relationship: Arc<Relationship>,
    /// What the parent is called in the statement.
    pub parent: QualifiedName,
    /// The name it was selected by.
    pub name: String,
    /// The name the client gave it.
    pub alias: Option<String>,
    /// What happens to the parent's rows that have none.
    pub join: Option<JoinType>,
    /// What the joined rows are called in the statement.
    pub join_alias: String,
    /// How it shows in the parent's rows.
    pub shape: Shape,
}

impl Embed {
    /// Its name in the result, and in filters.
    pub fn shown_name(&self) -> &str {
        self.alias.as_deref().unwrap_or(&self.name)
    }
}

/// How an embedded relation shows in its parent's rows.
#[derive(Debug)]
pub enum Shape {
    /// One JSON object, or null.
    Object,
    /// A JSON array.
    Array,
    /// Its columns among the parent's.
    Spread(Vec<SpreadField>),
    /// Its columns among the parent's, each as an array of all rows' values.
    SpreadArrays(Vec<SpreadField>),
}

/// A column of a spread embedding, in the parent's selection.
#[derive(Clone, Debug)]
pub struct SpreadField {
    /// What it is called in the joined rows.
    pub name: String,
    /// What the parent's rows are folded with: an aggregate moves up to where rows are grouped.
    pub aggregate: Option<Aggregate>,
    /// Its name in the result, where that is another.
    pub alias: Option<String>,
}

/// A column, or an aggregate over one, in a selection.
#[derive(Clone, Debug)]
pub struct SelectedField {
    /// What is read.
    pub field: TypedField,
    /// Type it is cast to before it is aggregated.
    pub cast: Option<String>,
    /// What the rows of a group are folded with.
    pub aggregate: Option<Aggregate>,
    /// Its name in the result, where that is another.
    pub alias: Option<String>,
}

/// A key of an order.
#[derive(Clone, Debug)]
pub struct OrderKey {
    /// The to-one embedding the field is of, by its name in the statement.
    pub joined: Option<String>,
    /// What is compared.
    pub field: TypedField,
    /// Ascending when absent.
    pub direction: Option<Direction>,
    /// PostgreSQL's default when absent.
    pub nulls: Option<Nulls>,
}

impl ReadNode {
    /// The name its columns are qualified with in the statement.
    pub fn qualifier(&self) -> QualifiedName {
        match &self.alias {
            Some(alias) => QualifiedName::local(alias.as_str()),
            None => self.name.clone(),
        }
    }

    /// Whether nothing at all is selected of it, not even by its embeddings: it only filters.
    pub fn selects_nothing(&self) -> bool {
        self.select.is_empty() && self.children.iter().all(Self::selects_nothing)
    }

    /// Whether exactly all columns are selected, and nothing else.
    pub fn selects_everything(&self) -> bool {
        self.children.is_empty() && matches!(self.select.as_slice(), [only] if only.field.name == "*")
    }
}
