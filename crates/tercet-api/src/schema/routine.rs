//! Functions a request can call.

use std::cmp::Ordering;
use std::sync::Arc;

use super::QualifiedName;

/// A function of an exposed schema; one of its overloads.
#[derive(Debug)]
pub struct Routine {
    /// Its schema.
    pub schema: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// What `COMMENT ON FUNCTION` says about it.
    pub comment: Option<Box<str>>,
    /// The input parameters, in order.
    pub parameters: Vec<Parameter>,
    /// What it returns.
    pub result: RoutineResult,
    /// Whether the result is a set.
    pub returns_set: bool,
    /// Whether it may write.
    pub volatility: Volatility,
    /// Whether the last parameter takes any number of values.
    pub variadic: bool,
    /// Its own settings (`CREATE FUNCTION … SET name = value`).
    pub settings: Vec<(Box<str>, Box<str>)>,
    /// `pg_proc.oid`: tells overloads apart where the catalogue is asked again.
    pub oid: u32,
}

/// What a function returns, one or a set of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutineResult {
    /// A value of a type that has no columns.
    Scalar(QualifiedName),
    /// A row: of a relation, of a composite type, or made of output parameters.
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
    /// Its name, empty for a positional one.
    pub name: Arc<str>,
    /// Its type as declared.
    pub data_type: Arc<str>,
    /// The type to convert an argument to: the same, but never cutting it short (`bit`, `character`).
    pub argument_type: Arc<str>,
    /// Whether it has no default.
    pub required: bool,
    /// Whether it takes any number of values.
    pub variadic: bool,
}

/// `pg_proc.provolatile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// Always the same answer.
    Immutable,
    /// The same answer within a statement; does not write.
    Stable,
    /// Anything.
    Volatile,
}

impl Routine {
    /// Whether it returns one value without columns.
    pub fn returns_scalar(&self) -> bool {
        !self.returns_set && matches!(self.result, RoutineResult::Scalar(_))
    }

    /// Whether it returns a set of values without columns.
    pub fn returns_set_of_scalar(&self) -> bool {
        self.returns_set && matches!(self.result, RoutineResult::Scalar(_))
    }

    /// Whether it returns one row.
    pub fn returns_single_composite(&self) -> bool {
        !self.returns_set && matches!(self.result, RoutineResult::Composite { .. })
    }

    /// Whether it returns nothing.
    pub fn returns_void(&self) -> bool {
        matches!(&self.result, RoutineResult::Scalar(name)
            if self.returns_scalar() && &*name.schema == "pg_catalog" && &*name.name == "void")
    }

    /// The relation whose rows it returns, if its rows are a relation's: what embedding starts from.
    pub fn returned_relation(&self) -> Option<&QualifiedName> {
        match &self.result {
            RoutineResult::Composite { of, .. } => Some(of),
            RoutineResult::Scalar(_) => None,
        }
    }

    /// Fewest parameters first, then by name: the order overloads are listed in.
    pub(super) fn overload_order(&self, other: &Self) -> Ordering {
        let by = |routine: &Self| routine.parameters.len();
        by(self).cmp(&by(other)).then_with(|| self.parameters.cmp(&other.parameters))
    }
}
