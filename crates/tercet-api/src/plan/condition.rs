//! Conditions on the rows of a read.

use super::TypedField;
use crate::request::filter::Operation;
use crate::request::logic::LogicOperator;

/// A condition on rows.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Conditions combined with AND or OR.
    Branch {
        /// Whether the result is negated.
        negated: bool,
        /// The logical operator.
        operator: LogicOperator,
        /// At least one.
        branches: Vec<Condition>,
    },
    /// A comparison.
    Comparison {
        /// The left operand.
        field: TypedField,
        /// Whether the comparison is negated.
        negated: bool,
        /// The operator and the right operand.
        operation: Operation,
    },
    /// A test whether an embedding has rows.
    Embedded {
        /// The embedding's alias in the statement.
        join_alias: String,
        /// True if it must have rows, false if it must have none.
        present: bool,
    },
}
