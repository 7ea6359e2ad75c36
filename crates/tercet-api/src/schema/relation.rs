//! Relations: tables, views and what else can be selected from.

use std::sync::Arc;

/// A table, view, materialised view, foreign table or partitioned table of an exposed schema.
#[derive(Debug)]
pub struct Relation {
    /// Its schema.
    pub schema: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub kind: RelationKind,
    /// What `COMMENT ON` says about it.
    pub comment: Option<Box<str>>,
    /// Whether rows can be inserted, by its kind, rules and triggers; privileges aside.
    pub insertable: bool,
    /// Whether rows can be updated.
    pub updatable: bool,
    /// Whether rows can be deleted.
    pub deletable: bool,
    /// The columns of the primary key. A view has its table's, where it shows all of them.
    pub primary_key: Vec<Arc<str>>,
    /// The columns, in order.
    pub columns: Vec<Column>,
    /// Whether it is proved that reading it runs no code but PostgreSQL's own, and of that nothing volatile.
    pub side_effect_free: bool,
}

impl Relation {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| &*column.name == name)
    }
}

/// What a relation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// An ordinary table.
    Table,
    /// A table made of partitions.
    Partitioned,
    /// A table of a foreign server.
    Foreign,
    /// A view.
    View,
    /// A materialised view.
    MaterialisedView,
}

impl RelationKind {
    /// Whether its rows come from a stored query.
    pub fn is_view(self) -> bool {
        matches!(self, Self::View | Self::MaterialisedView)
    }

    /// From `pg_class.relkind`.
    pub(super) fn from_catalogue(kind: &str) -> Self {
        match kind {
            "p" => Self::Partitioned,
            "f" => Self::Foreign,
            "v" => Self::View,
            "m" => Self::MaterialisedView,
            _ => Self::Table,
        }
    }
}

/// A column of a relation.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub name: Arc<str>,
    /// What `COMMENT ON COLUMN` says about it.
    pub comment: Option<Box<str>>,
    /// Whether it may be null.
    pub nullable: bool,
    /// Its type; the base type if it is a domain. Quoted and qualified where need be.
    pub data_type: Arc<str>,
    /// Its type as declared, with its length: a domain stays a domain. Quoted and qualified.
    pub nominal_type: Arc<str>,
    /// Its type as declared, without its length: what a value is converted to before it is written. The length is the
    /// column's to enforce.
    pub argument_type: Arc<str>,
    /// The greatest number of characters (or bits), where the type has one.
    pub max_length: Option<i32>,
    /// The SQL expression of its default; for an identity column, its sequence's next value.
    pub default: Option<Box<str>>,
    /// The labels, if its type is an enum.
    pub enum_labels: Vec<Box<str>>,
    /// Whether a statement may give it a value: not what is `GENERATED ALWAYS`, nor what a view computes.
    pub writable: bool,
    /// Whether triggers of its view take what is written to it, so that what it shows does not matter.
    pub(super) by_trigger: bool,
    /// Its number in the relation.
    pub(super) number: i16,
}
