//! Logic trees: `or=(a.eq.1,and(b.gt.2,c.is.null))`.

use super::filter::Filter;

/// A boolean expression over filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogicTree {
    /// `and(…)`, `or(…)`, `not.and(…)`, `not.or(…)`
    Branch {
        /// `not.` came before the operator.
        negated: bool,
        /// How the branches are tied together.
        operator: LogicOperator,
        /// At least one.
        branches: Vec<LogicTree>,
    },
    /// `field.operator.value`; the field may name an embedded relation (`rel.not.is.null`).
    Leaf(Filter),
}

/// How the branches of a tree are tied together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogicOperator {
    /// `and`
    And,
    /// `or`
    Or,
}
