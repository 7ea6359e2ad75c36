//! Order of rows: `order=age.desc.nullslast,client(name)`.

use super::field::Field;

/// One key of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderTerm {
    /// The embedded to-one relation whose field is meant, `None` for the relation itself.
    pub relation: Option<String>,
    /// What is compared.
    pub field: Field,
    /// Ascending when absent.
    pub direction: Option<Direction>,
    /// PostgreSQL's default when absent.
    pub nulls: Option<Nulls>,
}

/// Which end comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// `asc`
    Ascending,
    /// `desc`
    Descending,
}

/// Where nulls go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nulls {
    /// `nullsfirst`
    First,
    /// `nullslast`
    Last,
}
