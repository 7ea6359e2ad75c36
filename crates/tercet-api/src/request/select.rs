//! Vertical filters: `select=id,name:full_name,client!inner(*)`.

use winnow::Parser as _;
use winnow::combinator::{delimited, preceded, terminated};

use super::field::{Field, field, field_name, identifier};
use super::grammar::{
    Depth, Expected, Input, ParseError, Parsed, ahead, attempt, character, deeper, either, end, literal,
    not_before, optional, separated, spaced,
};

/// The nesting limit of embeddings: each is a join for PostgreSQL to plan and multiplies rows, so few of them can
/// take hours.
const MAX_DEPTH: Depth = (16, "at most 16 resources embedded inside each other");

/// An item of a selection.
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
    /// The column; `*` for all columns, and for `count()` without a column.
    pub field: Field,
    /// The cast before aggregation.
    pub cast: Option<String>,
    /// The aggregate.
    pub aggregate: Option<Aggregate>,
    /// The name in the result.
    pub alias: Option<String>,
}

/// An aggregate function and the cast of its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    /// The function.
    pub function: AggregateFunction,
    /// The cast of the result; PostgreSQL's type if absent.
    pub cast: Option<String>,
}

/// The supported aggregate functions.
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

/// An embedded relation and its selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectRelation {
    /// Table, view, computed relationship or foreign key column.
    pub name: String,
    /// The name in the result.
    pub alias: Option<String>,
    /// A foreign key, column or junction that selects one of several relationships.
    pub hint: Option<String>,
    /// The join type; left if absent.
    pub join: Option<JoinType>,
    /// Its selection; may be empty.
    pub items: Vec<SelectItem>,
}

/// Whether rows without related rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinType {
    /// `!inner`: they are dropped.
    Inner,
    /// `!left`: they are kept.
    Left,
}

/// Comma-separated items, possibly none.
pub(super) fn selection(input: &mut Input<'_>) -> Parsed<Vec<SelectItem>> {
    let separator = |input: &mut Input<'_>| spaced(input, character(','));
    Ok(optional(input, |input| separated(input, select_item, separator))?.unwrap_or_default())
}

fn select_item(input: &mut Input<'_>) -> Parsed<SelectItem> {
    either(
        input,
        |input| {
            let relation = attempt(input, spread)?;
            Ok(SelectItem::Spread(SelectRelation { items: embedded(input)?, ..relation }))
        },
        |input| {
            either(
                input,
                |input| {
                    let relation = attempt(input, relation)?;
                    Ok(SelectItem::Relation(SelectRelation { items: embedded(input)?, ..relation }))
                },
                |input| select_field(input).map(SelectItem::Field),
            )
        },
    )
}

fn embedded(input: &mut Input<'_>) -> Parsed<Vec<SelectItem>> {
    character('(')(input)?;
    let items = deeper(input, MAX_DEPTH, selection)?;
    character(')')(input)?;
    Ok(items)
}

fn spread(input: &mut Input<'_>) -> Parsed<SelectRelation> {
    spaced(input, |input| {
        literal("...")(input)?;
        let name = field_name(input)?;
        related(input, None, name)
    })
}

fn relation(input: &mut Input<'_>) -> Parsed<SelectRelation> {
    spaced(input, |input| {
        let alias = alias(input)?;
        let name = field_name(input)?;
        // `count()` is an aggregate
        if name == "count" {
            return Err(ParseError);
        }
        related(input, alias, name)
    })
}

/// `!hint!inner`, each optional and in either order, and the opening bracket.
fn related(input: &mut Input<'_>, alias: Option<String>, name: String) -> Parsed<SelectRelation> {
    let (mut hint, mut join) = (None, None);
    for _ in 0..2 {
        let text = input.input;
        match optional(input, embed_parameter)? {
            Some(EmbedParameter::Hint(name)) if hint.is_none() => hint = Some(name),
            Some(EmbedParameter::Join(kind)) if join.is_none() => join = Some(kind),
            // a second one of a kind is not consumed, and so rejected
            Some(_) => input.input = text,
            None => break,
        }
    }
    attempt(input, |input| ahead(input, character('(')))?;
    Ok(SelectRelation { name, alias, hint, join, items: Vec::new() })
}

enum EmbedParameter {
    Hint(String),
    Join(JoinType),
}

fn embed_parameter(input: &mut Input<'_>) -> Parsed<EmbedParameter> {
    character('!')(input)?;
    for (name, kind) in [("left", JoinType::Left), ("inner", JoinType::Inner)] {
        if attempt(input, literal(name)).is_ok() {
            return Ok(EmbedParameter::Join(kind));
        }
    }
    attempt(input, field_name).map(EmbedParameter::Hint)
}

fn select_field(input: &mut Input<'_>) -> Parsed<SelectField> {
    spaced(input, |input| {
        either(
            input,
            |input| attempt(input, all_columns),
            |input| either(input, |input| attempt(input, row_count), |input| column(input)),
        )
    })
}

fn all_columns(input: &mut Input<'_>) -> Parsed<SelectField> {
    literal("*")(input)?;
    item_end(input)?;
    Ok(SelectField { field: Field::all(), cast: None, aggregate: None, alias: None })
}

fn row_count(input: &mut Input<'_>) -> Parsed<SelectField> {
    let alias = alias(input)?;
    literal("count()")(input)?;
    let aggregate = Aggregate { function: AggregateFunction::Count, cast: cast(input)? };
    item_end(input)?;
    Ok(SelectField { field: Field::all(), cast: None, aggregate: Some(aggregate), alias })
}

fn column(input: &mut Input<'_>) -> Parsed<SelectField> {
    let alias = alias(input)?;
    let field = field(input)?;
    let cast_before = cast(input)?;
    let function = optional(input, |input| {
        attempt(input, |input| delimited(character('.'), aggregate_function, literal("()")).parse_next(input))
    })?;
    let cast_after = cast(input)?;
    item_end(input)?;
    let aggregate = function.map(|function| Aggregate { function, cast: cast_after });
    Ok(SelectField { field, cast: cast_before, aggregate, alias })
}

/// `alias:`, not followed by the second colon of a cast.
fn alias(input: &mut Input<'_>) -> Parsed<Option<String>> {
    let colon = |input: &mut Input<'_>| {
        (character(':'), not_before(|c| c == ':', Some(Expected::Character(':')))).void().parse_next(input)
    };
    optional(input, |input| attempt(input, |input| terminated(field_name, colon).parse_next(input)))
}

fn cast(input: &mut Input<'_>) -> Parsed<Option<String>> {
    optional(input, |input| preceded(literal("::"), identifier).parse_next(input))
}

fn aggregate_function(input: &mut Input<'_>) -> Parsed<AggregateFunction> {
    const NAMES: [(&str, AggregateFunction); 5] = [
        ("sum", AggregateFunction::Sum),
        ("avg", AggregateFunction::Avg),
        ("count", AggregateFunction::Count),
        ("max", AggregateFunction::Max),
        ("min", AggregateFunction::Min),
    ];
    for (name, function) in NAMES {
        if attempt(input, literal(name)).is_ok() {
            return Ok(function);
        }
    }
    Err(ParseError)
}

fn item_end(input: &mut Input<'_>) -> Parsed<()> {
    for closing in [')', ','] {
        if attempt(input, |input| ahead(input, character(closing))).is_ok() {
            return Ok(());
        }
    }
    end(input)
}
