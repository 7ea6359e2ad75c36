//! Order of rows: `order=age.desc.nullslast,client(name)`.

use winnow::Parser as _;
use winnow::combinator::delimited;

use super::field::{Field, delimiter, field, field_name};
use super::grammar::{Input, Parsed, ahead, attempt, character, either, end, literal, separated, spaced};

/// An ORDER BY key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderTerm {
    /// The embedded to-one relation the field belongs to; `None` for the relation itself.
    pub relation: Option<String>,
    /// The field.
    pub field: Field,
    /// The direction; ascending if absent.
    pub direction: Option<Direction>,
    /// The position of nulls; PostgreSQL's default if absent.
    pub nulls: Option<Nulls>,
}

/// The sort direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// `asc`
    Ascending,
    /// `desc`
    Descending,
}

/// The position of nulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nulls {
    /// `nullsfirst`
    First,
    /// `nullslast`
    Last,
}

/// Comma-separated terms.
pub(super) fn order(input: &mut Input<'_>) -> Parsed<Vec<OrderTerm>> {
    let term = |input: &mut Input<'_>| {
        spaced(input, |input| either(input, |input| attempt(input, related_term), own_term))
    };
    separated(input, term, character(','))
}

fn own_term(input: &mut Input<'_>) -> Parsed<OrderTerm> {
    let field = field(input)?;
    modifiers(input, None, field)
}

fn related_term(input: &mut Input<'_>) -> Parsed<OrderTerm> {
    let relation = field_name(input)?;
    let field = delimited(character('('), field, character(')')).parse_next(input)?;
    modifiers(input, Some(relation), field)
}

fn modifiers(input: &mut Input<'_>, relation: Option<String>, field: Field) -> Parsed<OrderTerm> {
    let direction = modifier(input, &[("asc", Direction::Ascending), ("desc", Direction::Descending)]);
    let nulls = modifier(input, &[("nullsfirst", Nulls::First), ("nullslast", Nulls::Last)]);
    either(input, |input| attempt(input, |input| ahead(input, character(','))).map(|_| ()), end)?;
    Ok(OrderTerm { relation, field, direction, nulls })
}

fn modifier<T: Copy>(input: &mut Input<'_>, names: &[(&'static str, T)]) -> Option<T> {
    for (name, meaning) in names {
        if attempt(input, |input| (delimiter, literal(name)).parse_next(input)).is_ok() {
            return Some(*meaning);
        }
    }
    None
}
