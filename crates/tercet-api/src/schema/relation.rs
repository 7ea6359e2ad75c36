//! Relations: tables, views and everything else a query can select from.

use std::sync::Arc;

/// A table, view, materialised view, foreign table or partitioned table of an exposed schema.
#[derive(Debug)]
pub struct Relation {
    /// Its schema.
    pub schema: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its kind.
    pub kind: RelationKind,
    /// Its comment.
    pub comment: Option<Box<str>>,
    /// Whether rows can be inserted, by kind, rules and triggers; independent of privileges.
    pub insertable: bool,
    /// Whether rows can be updated.
    pub updatable: bool,
    /// Whether rows can be deleted.
    pub deletable: bool,
    /// The primary key; for a view its table's, if the view has all its columns.
    pub primary_key: Vec<Arc<str>>,
    /// The columns, in order.
    pub columns: Vec<Column>,
    /// What provably leaves the session unchanged.
    pub side_effect_free: SideEffectFree,
}

/// The commands on a relation that provably execute only PostgreSQL's own code, and leave nothing behind in the
/// session but what `currval()` and `lastval()` return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SideEffectFree {
    /// SELECT.
    pub reads: bool,
    /// INSERT, also with the new rows returned.
    pub inserts: bool,
    /// INSERT, UPDATE and DELETE, with all their referential actions.
    pub changes: bool,
}

impl Relation {
    /// The column with this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| &*column.name == name)
    }
}

/// The kind of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// An ordinary table.
    Table,
    /// A partitioned table.
    Partitioned,
    /// A foreign table.
    Foreign,
    /// A view.
    View,
    /// A materialised view.
    MaterialisedView,
}

impl RelationKind {
    /// Whether it is defined by a query.
    pub fn is_view(self) -> bool {
        matches!(self, Self::View | Self::MaterialisedView)
    }

    /// Parses `pg_class.relkind`.
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
    /// Its comment.
    pub comment: Option<Box<str>>,
    /// Whether it is nullable.
    pub nullable: bool,
    /// Its type; the base type of a domain. Quoted, and qualified where necessary.
    pub data_type: Arc<str>,
    /// Its declared type with its length; a domain is kept. Quoted and qualified.
    pub nominal_type: Arc<str>,
    /// Its declared type without its length: the type values are converted to before they are written. The column
    /// enforces the length.
    pub argument_type: Arc<str>,
    /// The maximum number of characters (or bits), if the type has one.
    pub max_length: Option<i32>,
    /// The SQL expression of its default; for an identity column, the next value of its sequence.
    pub default: Option<Box<str>>,
    /// The labels of an enum type.
    pub enum_labels: Vec<Box<str>>,
    /// Whether it is writable: not `GENERATED ALWAYS`, and not computed by a view.
    pub writable: bool,
    /// Whether the view's triggers handle writes, so that the view's expression does not matter.
    pub(super) by_trigger: bool,
    /// Its number in the relation (`attnum`).
    pub(super) number: i16,
}
