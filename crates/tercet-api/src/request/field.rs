//! Column names and JSON paths: `name`, `"odd name"`, `data->a->>0`.

use winnow::Parser as _;

use super::grammar::{
    Expected, Input, Parsed, ahead, any, attempt, character, either, end, labelled, literal, not_before,
    optional, run, separated, some_run, spaced,
};

/// A column, or a path into its value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// The column name; `*` means all columns.
    pub name: String,
    /// Steps into a json, composite or array value; empty for the column itself.
    pub json_path: Vec<JsonStep>,
}

impl Field {
    /// `*`
    pub fn all() -> Self {
        Self { name: "*".into(), json_path: Vec::new() }
    }
}

/// One step of a JSON path ([JSON functions](https://www.postgresql.org/docs/current/functions-json.html)).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JsonStep {
    /// The operator.
    pub arrow: Arrow,
    /// Its operand.
    pub operand: JsonOperand,
}

/// The JSON path operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arrow {
    /// `->`: the result is JSON.
    Json,
    /// `->>`: the result is text.
    Text,
}

/// The operand of a step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum JsonOperand {
    /// A key of an object.
    Key(String),
    /// An index of an array, negative from its end. Signed decimal digits of any length: PostgreSQL checks the range.
    Index(String),
}

/// The path to an embedded relation, outermost first; empty for the target.
pub type EmbedPath = Vec<String>;

const IDENTIFIER: [Expected; 2] = [Expected::Label("letter"), Expected::Label("digit")];

/// Letters, digits, `_`, `$` and inner spaces: a name, a type, a text search configuration.
pub(super) fn identifier(input: &mut Input<'_>) -> Parsed<String> {
    let accepts = |c: char| c.is_alphabetic() || c.is_ascii_digit() || matches!(c, '_' | ' ' | '$');
    Ok(some_run(input, accepts, &IDENTIFIER)?.trim().to_owned())
}

/// A name: quoted, or identifiers joined by dashes.
pub(super) fn field_name(input: &mut Input<'_>) -> Parsed<String> {
    labelled(input, "field name (* or [a..z0..9_$])", |input| {
        either(input, quoted, |input| dashed(input, identifier))
    })
}

/// A double-quoted text, with backslash escapes.
pub(super) fn quoted(input: &mut Input<'_>) -> Parsed<String> {
    character('"')(input)?;
    let mut text = String::new();
    loop {
        text.push_str(run(input, |c| !matches!(c, '"' | '\\'), &[]));
        if optional(input, character('\\'))?.is_none() {
            break;
        }
        text.push(any(input)?);
    }
    character('"')(input)?;
    Ok(text)
}

/// `name` and a JSON path.
pub(super) fn field(input: &mut Input<'_>) -> Parsed<Field> {
    spaced(input, |input| Ok(Field { name: field_name(input)?, json_path: json_path(input)? }))
}

/// `.`
pub(super) fn delimiter(input: &mut Input<'_>) -> Parsed<char> {
    labelled(input, "delimiter (.)", character('.'))
}

/// `relation.relation.field`
pub(super) fn embedded_field(input: &mut Input<'_>) -> Parsed<(EmbedPath, Field)> {
    let mut names = separated(input, field_name, delimiter)?;
    let name = names.pop().unwrap_or_default();
    Ok((names, Field { name, json_path: json_path(input)? }))
}

/// A JSON path, possibly empty.
pub(super) fn json_path(input: &mut Input<'_>) -> Parsed<Vec<JsonStep>> {
    let mut path = Vec::new();
    while let Some(arrow) = optional(input, arrow)? {
        let operand = either(input, |input| attempt(input, array_index), |input| attempt(input, object_key))?;
        path.push(JsonStep { arrow, operand });
    }
    Ok(path)
}

fn arrow(input: &mut Input<'_>) -> Parsed<Arrow> {
    either(
        input,
        |input| attempt(input, literal("->>")).map(|_| Arrow::Text),
        |input| attempt(input, literal("->")).map(|_| Arrow::Json),
    )
}

fn array_index(input: &mut Input<'_>) -> Parsed<JsonOperand> {
    let sign = optional(input, character('-'))?.unwrap_or('+');
    let digits = some_run(input, |c| c.is_ascii_digit(), &[Expected::Label("digit")])?;
    for arrow in ["->", "::"] {
        if attempt(input, |input| ahead(input, literal(arrow))).is_ok() {
            return Ok(JsonOperand::Index(format!("{sign}{digits}")));
        }
    }
    // like PostgREST, an index before a closing bracket is parsed as a key
    if !input.input.starts_with(')') {
        either(input, character_ahead('.'), |input| either(input, character_ahead(','), end))?;
    }
    Ok(JsonOperand::Index(format!("{sign}{digits}")))
}

fn character_ahead<'i>(wanted: char) -> impl Fn(&mut Input<'i>) -> Parsed<()> {
    move |input| ahead(input, character(wanted)).map(|_| ())
}

fn object_key(input: &mut Input<'_>) -> Parsed<JsonOperand> {
    let key = labelled(input, "any non reserved character different from: .,>()", |input| {
        either(input, quoted, |input| {
            dashed(input, |input| {
                let accepts = |c| !matches!(c, '(' | '-' | ':' | '.' | ',' | '>' | ')');
                Ok(some_run(input, accepts, &[])?.trim().to_owned())
            })
        })
    })?;
    Ok(JsonOperand::Key(key))
}

/// Parts joined by dashes that do not start an arrow.
fn dashed<'i>(input: &mut Input<'i>, part: impl FnMut(&mut Input<'i>) -> Parsed<String>) -> Parsed<String> {
    let dash = |input: &mut Input<'i>| {
        attempt(input, |input| {
            (character('-'), not_before(|c| c == '>', Some(Expected::Character('>'))))
                .void()
                .parse_next(input)
        })
    };
    Ok(separated(input, part, dash)?.join("-"))
}
