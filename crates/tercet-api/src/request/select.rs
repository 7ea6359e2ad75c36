//! Vertical filters: `select=id,name:full_name,client!inner(*)`.

use super::field::Field;

/// One item of a selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelectItem {
    /// `alias:field::cast.aggregate()::cast`
    Field(SelectField),
    /// `alias:relation!hint!inner(…)`
    Relation(SelectRelation),
    /// `...relation!hint!inner(…)`; its `alias` is always `None`.
    Spread(SelectRelation),
}

/// A column, a computed column, or an aggregate over one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectField {
    /// What is read; the name is `*` for all columns, and for `count()` without a column.
    pub field: Field,
    /// Type the field is cast to before it is aggregated.
    pub cast: Option<String>,
    /// What the rows of a group are folded with.
    pub aggregate: Option<Aggregate>,
    /// Name in the result.
    pub alias: Option<String>,
}

/// An aggregate function and the type its result is cast to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    /// Which one.
    pub function: AggregateFunction,
    /// Type of the result, PostgreSQL's own when absent.
    pub cast: Option<String>,
}

/// The aggregate functions a client may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateFunction {
    /// `sum()`
    Sum,
    /// `avg()`
    Avg,
    /// `count()`
    Count,
    /// `max()`
    Max,
    /// `min()`
    Min,
}

/// An embedded relation and what is selected of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectRelation {
    /// Table, view, computed relationship or foreign key column.
    pub name: String,
    /// Name in the result.
    pub alias: Option<String>,
    /// Foreign key, column or junction that tells several relationships apart.
    pub hint: Option<String>,
    /// How it is joined, left when absent.
    pub join: Option<JoinType>,
    /// What is selected of it; may be empty.
    pub items: Vec<SelectItem>,
}

/// What happens to rows that have no related one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinType {
    /// `!inner`: they are left out.
    Inner,
    /// `!left`: they stay.
    Left,
}
