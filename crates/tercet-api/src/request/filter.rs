//! Horizontal filters: `column=operator.value`.

use super::field::Field;

/// A condition on one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// What is looked at.
    pub field: Field,
    /// `not.` came before the operator.
    pub negated: bool,
    /// How it is compared, and with what.
    pub operation: Operation,
}

/// A comparison and its operand. Operands are text; PostgreSQL gives them the type of the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// An operator with one value.
    Simple(SimpleOperator, String),
    /// An operator with one value, or with an array literal under `any` or `all`.
    Quantified(QuantifiedOperator, Option<Quantifier>, String),
    /// `in.(a,b)`
    In(Vec<String>),
    /// `is.null`
    Is(IsValue),
    /// `isdistinct.value`
    IsDistinctFrom(String),
    /// `fts(language).query` and its kin.
    FullText {
        /// How the query text is read.
        operator: FullTextOperator,
        /// Text search configuration, the database's default when absent.
        language: Option<String>,
        /// The query text.
        query: String,
    },
}

/// Operators that take `any` and `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantifiedOperator {
    /// `eq`
    Equal,
    /// `gte`
    GreaterThanEqual,
    /// `gt`
    GreaterThan,
    /// `lte`
    LessThanEqual,
    /// `lt`
    LessThan,
    /// `like`, where `*` means `%`
    Like,
    /// `ilike`, where `*` means `%`
    ILike,
    /// `match`
    Match,
    /// `imatch`
    IMatch,
}

/// Whether one element of the operand must satisfy the comparison, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantifier {
    /// `(any)`
    Any,
    /// `(all)`
    All,
}

/// Operators with exactly one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimpleOperator {
    /// `neq`
    NotEqual,
    /// `cs`
    Contains,
    /// `cd`
    Contained,
    /// `ov`
    Overlap,
    /// `sl`
    StrictlyLeft,
    /// `sr`
    StrictlyRight,
    /// `nxr`
    NotExtendsRight,
    /// `nxl`
    NotExtendsLeft,
    /// `adj`
    Adjacent,
}

/// What a field can be according to `is`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsValue {
    /// `null`
    Null,
    /// `not_null`
    NotNull,
    /// `true`
    True,
    /// `false`
    False,
    /// `unknown`
    Unknown,
}

/// How the text of a full-text query is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullTextOperator {
    /// `fts`: `to_tsquery`
    Query,
    /// `plfts`: `plainto_tsquery`
    Plain,
    /// `phfts`: `phraseto_tsquery`
    Phrase,
    /// `wfts`: `websearch_to_tsquery`
    Websearch,
}
