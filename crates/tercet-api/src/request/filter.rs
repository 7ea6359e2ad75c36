//! Horizontal filters: `column=operator.value`.

use winnow::Parser as _;
use winnow::combinator::{delimited, terminated};

use super::field::{Field, delimiter, identifier, quoted};
use super::grammar::{
    Input, ParseError, Parsed, attempt, character, either, labelled, literal, literal_in_any_case,
    not_before, optional, rest, run, separated, spaced,
};

/// A condition on one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The left operand.
    pub field: Field,
    /// Whether `not.` precedes the operator.
    pub negated: bool,
    /// The operator and its operand.
    pub operation: Operation,
}

/// A comparison and its operand. Operands are text; PostgreSQL converts them to the field's type.
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
    /// `fts(language).query` and variants.
    FullText {
        /// How the query text is parsed.
        operator: FullTextOperator,
        /// The text search configuration; the database's default if absent.
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

/// Whether any or all elements of the operand must match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantifier {
    /// `(any)`
    Any,
    /// `(all)`
    All,
}

/// Operators with a single value.
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

/// The operand of `is`.
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

/// How the text of a full-text query is parsed.
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

/// `not.operator.value`; `value` parses the operand of operators that have one. Returns whether it is negated, and
/// the operation.
pub(super) fn condition<'i>(
    input: &mut Input<'i>,
    value: impl Fn(&mut Input<'i>) -> Parsed<String>,
) -> Parsed<(bool, Operation)> {
    let negated =
        optional(input, |input| attempt(input, |input| (literal("not"), delimiter).parse_next(input)))?
            .is_some();
    let operation = labelled(input, "operator (eq, gt, ...)", |input| operation(input, &value))?;
    Ok((negated, operation))
}

/// The operand of a filter parameter: the rest of the input.
pub(super) fn whole_value(input: &mut Input<'_>) -> String {
    rest(input).to_owned()
}

fn operation<'i>(
    input: &mut Input<'i>,
    value: &impl Fn(&mut Input<'i>) -> Parsed<String>,
) -> Parsed<Operation> {
    if operator(input, "in")? {
        return list(input).map(Operation::In);
    }
    if operator(input, "is")? {
        return is_value(input).map(Operation::Is);
    }
    if operator(input, "isdistinct")? {
        return value(input).map(Operation::IsDistinctFrom);
    }
    either(
        input,
        |input| attempt(input, |input| full_text(input, value)),
        |input| {
            either(
                input,
                |input| attempt(input, |input| simple(input, value)),
                |input| attempt(input, |input| quantified(input, value)),
            )
        },
    )
}

/// Consumes `name.` if the input starts with it.
fn operator(input: &mut Input<'_>, name: &'static str) -> Parsed<bool> {
    Ok(optional(input, |input| attempt(input, |input| (literal(name), delimiter).parse_next(input)))?
        .is_some())
}

/// Consumes the first of the names that the input starts with.
fn named<T: Copy>(input: &mut Input<'_>, names: &[(&'static str, T)]) -> Parsed<T> {
    for (name, meaning) in names {
        if attempt(input, literal(name)).is_ok() {
            return Ok(*meaning);
        }
    }
    Err(ParseError)
}

fn full_text<'i>(
    input: &mut Input<'i>,
    value: &impl Fn(&mut Input<'i>) -> Parsed<String>,
) -> Parsed<Operation> {
    let operator = named(input, &FullTextOperator::NAMES)?;
    let language = optional(input, |input| {
        attempt(input, |input| delimited(character('('), identifier, character(')')).parse_next(input))
    })?;
    delimiter(input)?;
    Ok(Operation::FullText { operator, language, query: value(input)? })
}

fn simple<'i>(input: &mut Input<'i>, value: &impl Fn(&mut Input<'i>) -> Parsed<String>) -> Parsed<Operation> {
    let operator =
        labelled(input, "unknown single value operator", |input| named(input, &SimpleOperator::NAMES))?;
    delimiter(input)?;
    Ok(Operation::Simple(operator, value(input)?))
}

fn quantified<'i>(
    input: &mut Input<'i>,
    value: &impl Fn(&mut Input<'i>) -> Parsed<String>,
) -> Parsed<Operation> {
    let operator =
        labelled(input, "unknown single value operator", |input| named(input, &QuantifiedOperator::NAMES))?;
    let quantifier = optional(input, |input| {
        attempt(input, |input| delimited(character('('), quantifier, character(')')).parse_next(input))
    })?;
    delimiter(input)?;
    Ok(Operation::Quantified(operator, quantifier, value(input)?))
}

fn quantifier(input: &mut Input<'_>) -> Parsed<Quantifier> {
    either(
        input,
        |input| attempt(input, literal("any")).map(|_| Quantifier::Any),
        |input| literal("all")(input).map(|_| Quantifier::All),
    )
}

fn is_value(input: &mut Input<'_>) -> Parsed<IsValue> {
    labelled(input, "isVal: (null, not_null, true, false, unknown)", |input| {
        for (name, value) in IsValue::NAMES {
            if attempt(input, literal_in_any_case(name)).is_ok() {
                return Ok(value);
            }
        }
        Err(ParseError)
    })
}

fn list(input: &mut Input<'_>) -> Parsed<Vec<String>> {
    spaced(input, character('('))?;
    let elements = separated(
        input,
        |input| either(input, quoted_element, |input| Ok(bare_element(input))),
        character(','),
    )?;
    spaced(input, character(')'))?;
    Ok(elements)
}

/// A quoted text that is not followed by further characters of a value.
pub(super) fn quoted_element(input: &mut Input<'_>) -> Parsed<String> {
    attempt(input, |input| {
        terminated(quoted, not_before(|c| !matches!(c, ',' | ')'), None)).parse_next(input)
    })
}

/// The input up to a comma or closing bracket.
pub(super) fn bare_element(input: &mut Input<'_>) -> String {
    run(input, |c| !matches!(c, ',' | ')'), &[]).to_owned()
}

impl FullTextOperator {
    const NAMES: [(&'static str, Self); 4] =
        [("fts", Self::Query), ("plfts", Self::Plain), ("phfts", Self::Phrase), ("wfts", Self::Websearch)];
}

impl SimpleOperator {
    const NAMES: [(&'static str, Self); 9] = [
        ("neq", Self::NotEqual),
        ("cs", Self::Contains),
        ("cd", Self::Contained),
        ("ov", Self::Overlap),
        ("sl", Self::StrictlyLeft),
        ("sr", Self::StrictlyRight),
        ("nxr", Self::NotExtendsRight),
        ("nxl", Self::NotExtendsLeft),
        ("adj", Self::Adjacent),
    ];
}

impl QuantifiedOperator {
    /// Longer names precede their prefixes.
    const NAMES: [(&'static str, Self); 9] = [
        ("eq", Self::Equal),
        ("gte", Self::GreaterThanEqual),
        ("gt", Self::GreaterThan),
        ("lte", Self::LessThanEqual),
        ("lt", Self::LessThan),
        ("like", Self::Like),
        ("ilike", Self::ILike),
        ("match", Self::Match),
        ("imatch", Self::IMatch),
    ];
}

impl IsValue {
    const NAMES: [(&'static str, Self); 5] = [
        ("null", Self::Null),
        ("not_null", Self::NotNull),
        ("true", Self::True),
        ("false", Self::False),
        ("unknown", Self::Unknown),
    ];
}
