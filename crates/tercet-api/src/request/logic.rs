//! Logic trees: `or=(a.eq.1,and(b.gt.2,c.is.null))`.

use winnow::Parser as _;

use super::field::{EmbedPath, delimiter, field, field_name};
use super::filter::{Filter, bare_element, condition, quoted_element};
use super::grammar::{
    Depth, Expected, Input, Parsed, attempt, character, deeper, either, fail_here, labelled, literal,
    optional, run, separated, spaced,
};

/// The nesting limit, since parsing and planning are recursive.
const MAX_DEPTH: Depth = (64, "at most 64 brackets inside each other");

/// A boolean expression over filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogicTree {
    /// `and(…)`, `or(…)`, `not.and(…)`, `not.or(…)`
    Branch {
        /// Whether `not.` precedes the operator.
        negated: bool,
        /// The logical operator.
        operator: LogicOperator,
        /// At least one.
        branches: Vec<LogicTree>,
    },
    /// `field.operator.value`; the field may name an embedded relation (`rel.not.is.null`).
    Leaf(Filter),
}

/// The operator of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogicOperator {
    /// `and`
    And,
    /// `or`
    Or,
}

/// `and(…)`, `or(…)`, or one condition.
pub(super) fn logic_tree(input: &mut Input<'_>) -> Parsed<LogicTree> {
    either(
        input,
        |input| attempt(input, leaf).map(LogicTree::Leaf),
        |input| {
            let negated = labelled(input, "negation operator (not)", |input| {
                optional(input, |input| attempt(input, |input| (literal("not"), delimiter).parse_next(input)))
            })?
            .is_some();
            let operator = labelled(input, "logic operator (and, or)", logic_operator)?;
            spaced(input, character('('))?;
            let branches = deeper(input, MAX_DEPTH, |input| {
                separated(input, logic_tree, |input| spaced(input, character(',')))
            })?;
            spaced(input, character(')'))?;
            Ok(LogicTree::Branch { negated, operator, branches })
        },
    )
}

/// The embedding path and the operator from a parameter's name: `relation.not.or`.
pub(super) fn logic_path(input: &mut Input<'_>) -> Parsed<(EmbedPath, String)> {
    let mut path = separated(input, field_name, delimiter)?;
    let operator = path.pop().unwrap_or_default();
    let nots = path.iter().filter(|name| *name == "not").count();
    if nots > 1 {
        return Err(fail_here(input, [Expected::Label("one negation operator (not)")]));
    }
    let negated = nots == 1;
    path.retain(|name| name != "not");
    Ok((path, if negated { format!("not.{operator}") } else { operator }))
}

fn leaf(input: &mut Input<'_>) -> Parsed<Filter> {
    let field = field(input)?;
    delimiter(input)?;
    let (negated, operation) = condition(input, value)?;
    Ok(Filter { field, negated, operation })
}

fn logic_operator(input: &mut Input<'_>) -> Parsed<LogicOperator> {
    either(
        input,
        |input| attempt(input, literal("and")).map(|_| LogicOperator::And),
        |input| literal("or")(input).map(|_| LogicOperator::Or),
    )
}

/// An operand inside a tree: quoted, an array literal, or everything up to a comma or closing bracket.
fn value(input: &mut Input<'_>) -> Parsed<String> {
    either(input, quoted_element, |input| {
        either(input, |input| attempt(input, array_literal), |input| Ok(bare_element(input)))
    })
}

fn array_literal(input: &mut Input<'_>) -> Parsed<String> {
    literal("{")(input)?;
    let elements = run(input, |c| !matches!(c, '{' | '}'), &[]);
    literal("}")(input)?;
    Ok(format!("{{{elements}}}"))
}
