//! Functions that requests can call.

use std::cmp::Ordering;
use std::sync::Arc;

use super::QualifiedName;

/// A function of an exposed schema; one overload.
#[derive(Debug)]
pub struct Routine {
    /// Its schema.
    pub schema: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its comment.
    pub comment: Option<Box<str>>,
    /// The input parameters, in order.
    pub parameters: Vec<Parameter>,
    /// Its result type.
    pub result: RoutineResult,
    /// Whether it returns a set.
    pub returns_set: bool,
    /// Whether it may write.
    pub volatility: Volatility,
    /// Whether the last parameter is variadic.
    pub variadic: bool,
    /// Its own settings (`CREATE FUNCTION … SET name = value`).
    pub settings: Vec<(Box<str>, Box<str>)>,
    /// `pg_proc.oid`: identifies the overload in later catalogue queries.
    pub oid: u32,
}

/// The result type of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutineResult {
    /// A type without columns.
    Scalar(QualifiedName),
    /// A row of a relation or composite type, or of output parameters.
    Composite {
        /// The relation or composite type; `record` for output parameters.
        of: QualifiedName,
        /// Whether the declared type is a domain over it.
        domain: bool,
    },
}

/// An input parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parameter {
    /// Its name; empty for an unnamed parameter.
    pub name: Arc<str>,
    /// Its declared type.
    pub data_type: Arc<str>,
    /// The type to convert an argument to: the declared one without a length (`bit`, `character`).
    pub argument_type: Arc<str>,
    /// Whether it is required: it has no default.
    pub required: bool,
    /// Whether it is variadic.
    pub variadic: bool,
}

/// `pg_proc.provolatile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// The result depends only on the arguments.
    Immutable,
    /// The result is constant within a statement; the function does not write.
    Stable,
    /// No guarantee.
    Volatile,
}

impl Routine {
    /// Whether it returns a single value without columns.
    pub fn returns_scalar(&self) -> bool {
        !self.returns_set && matches!(self.result, RoutineResult::Scalar(_))
    }

    /// Whether it returns a set of values without columns.
    pub fn returns_set_of_scalar(&self) -> bool {
        self.returns_set && matches!(self.result, RoutineResult::Scalar(_))
    }

    /// Whether it returns a single row.
    pub fn returns_single_composite(&self) -> bool {
        !self.returns_set && matches!(self.result, RoutineResult::Composite { .. })
    }

    /// Whether it returns `void`.
    pub fn returns_void(&self) -> bool {
        matches!(&self.result, RoutineResult::Scalar(name)
            if self.returns_scalar() && &*name.schema == "pg_catalog" && &*name.name == "void")
    }

    /// The relation whose rows it returns, if any: the start of embeddings.
    pub fn returned_relation(&self) -> Option<&QualifiedName> {
        match &self.result {
            RoutineResult::Composite { of, .. } => Some(of),
            RoutineResult::Scalar(_) => None,
        }
    }

    /// Fewest parameters first, then by name: the order of overloads.
    pub(super) fn overload_order(&self, other: &Self) -> Ordering {
        let by = |routine: &Self| routine.parameters.len();
        by(self).cmp(&by(other)).then_with(|| self.parameters.cmp(&other.parameters))
    }
}
