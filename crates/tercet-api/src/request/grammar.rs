//! Parser combinators for the query string.
//!
//! The input records what would have been accepted at the furthest failure, and forgets it on progress: PostgREST's
//! PGRST100 reports "unexpected" and "expecting" that way. So [`either`], [`attempt`], [`optional`] and [`labelled`]
//! replace winnow's alternatives, which keep no such record; sequences are winnow's. The record never affects what is
//! accepted, so [`read`] first parses without one, and parses again with it to report an error.

use std::fmt::Write as _;

use smallvec::SmallVec;
use winnow::error::ParserError;
use winnow::stream::{Stateful, Stream};

use crate::error::RequestError;

/// The remaining input and the failure record.
pub(super) type Input<'i> = Stateful<&'i str, Progress>;

/// The result of a parser.
pub(super) type Parsed<T> = Result<T, ParseError>;

/// The maximum nesting of brackets, and the error beyond it.
pub(super) type Depth = (usize, &'static str);

/// A parse error; [`Progress`] has the details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ParseError;

impl<I: Stream> ParserError<I> for ParseError {
    type Inner = Self;

    fn from_input(_input: &I) -> Self {
        Self
    }

    fn into_inner(self) -> Result<Self::Inner, Self> {
        Ok(self)
    }
}

/// Input that would have been accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// A character.
    Character(char),
    /// A literal text.
    Literal(&'static str),
    /// A named rule.
    Label(&'static str),
}

/// The unexpected input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    End,
    /// Reported as text.
    Text(char),
    /// Reported as a character: it was not allowed in any case.
    Character(char),
}

/// The state of a parser besides the input.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// The furthest failure, if recorded.
    furthest: Option<Box<Failure>>,
    depth: usize,
}

/// A failure and what would have been accepted there.
#[derive(Debug, Clone, Default)]
struct Failure {
    /// Remaining bytes at the failure.
    left: usize,
    found: Option<Found>,
    expected: SmallVec<[Expected; 8]>,
}

impl Failure {
    fn is_empty(&self) -> bool {
        self.found.is_none() && self.expected.is_empty()
    }

    fn clear(&mut self) {
        self.found = None;
        self.expected.clear();
    }

    fn add(&mut self, left: usize, found: Found, expected: impl IntoIterator<Item = Expected>) {
        if self.is_empty() || left < self.left {
            self.clear();
            self.left = left;
        } else if left > self.left {
            return;
        }
        self.found = match (self.found, found) {
            (Some(Found::Text(_) | Found::End) | None, found @ Found::Character(_)) => Some(found),
            (earlier, found) => earlier.or(Some(found)),
        };
        for one in expected {
            if !self.expected.contains(&one) {
                self.expected.push(one);
            }
        }
    }
}

impl Progress {
    fn recording() -> Self {
        Self { furthest: Some(Box::default()), depth: 0 }
    }

    fn clear(&mut self) {
        if let Some(furthest) = &mut self.furthest {
            furthest.clear();
        }
    }

    fn fail(&mut self, left: usize, found: Found, expected: impl IntoIterator<Item = Expected>) {
        if let Some(furthest) = &mut self.furthest {
            furthest.add(left, found, expected);
        }
    }

    /// Restores the earlier record and adds the later one.
    fn restore(&mut self, known: Option<Box<Failure>>) {
        let later = std::mem::replace(&mut self.furthest, known);
        if let Some(later) = later
            && let Some(found) = later.found
        {
            self.fail(later.left, found, later.expected);
        }
    }

    /// Takes the record, leaving an empty one.
    fn take(&mut self) -> Option<Box<Failure>> {
        self.furthest.as_mut().map(std::mem::take)
    }
}

/// Parses the whole of `text`; an error names the `kind` of input and quotes `shown`.
pub(super) fn read<'i, T>(
    text: &'i str,
    kind: &str,
    shown: &str,
    parser: impl Fn(&mut Input<'i>) -> Parsed<T>,
) -> Result<T, RequestError> {
    read_closed(text, kind, shown, &[], parser)
}

/// Like [`read`], but ignores surplus `closing` characters at the end.
pub(super) fn read_closed<'i, T>(
    text: &'i str,
    kind: &str,
    shown: &str,
    closing: &[char],
    parser: impl Fn(&mut Input<'i>) -> Parsed<T>,
) -> Result<T, RequestError> {
    // PostgREST ignores the rest of the input; tercet rejects it, since it may be part of the client's intent
    let whole = |input: &mut Input<'i>| {
        let read = parser(input)?;
        if input.input.trim_start_matches(closing).is_empty() {
            return Ok(read);
        }
        end(input)?;
        Ok(read)
    };
    if let Ok(read) = whole(&mut Input { input: text, state: Progress::default() }) {
        return Ok(read);
    }
    let mut input = Input { input: text, state: Progress::recording() };
    whole(&mut input).map_err(|ParseError| {
        let failure = input.state.furthest.unwrap_or_default();
        let read = text.get(..text.len().saturating_sub(failure.left)).unwrap_or(text);
        let (line, column) = position(read);
        RequestError::Parameter {
            message: format!("\"failed to parse {kind} ({shown})\" (line {line}, column {column})"),
            details: failure.to_string(),
        }
    })
}

/// Line and column after a text, both from 1; tabs advance to the next multiple of eight.
fn position(read: &str) -> (usize, usize) {
    read.chars().fold((1, 1), |(line, column), c| match c {
        '\n' => (line + 1, 1),
        '\t' => (line, column + 8 - (column - 1) % 8),
        _ => (line, column + 1),
    })
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.found {
            None => formatter.write_str("unknown parse error")?,
            Some(Found::End) => formatter.write_str("unexpected end of input")?,
            Some(Found::Text(c)) => write!(formatter, "unexpected \"{}\"", Escaped(c, '"'))?,
            Some(Found::Character(c)) => write!(formatter, "unexpected '{}'", Escaped(c, '\''))?,
        }
        for (index, expected) in self.expected.iter().enumerate() {
            formatter.write_str(match index {
                0 => " expecting ",
                _ if index + 1 == self.expected.len() => " or ",
                _ => ", ",
            })?;
            match expected {
                Expected::Character(c) => write!(formatter, "\"{}\"", Escaped(*c, '"'))?,
                Expected::Literal(text) => write!(formatter, "\"{text}\"")?,
                Expected::Label(name) => formatter.write_str(name)?,
            }
        }
        Ok(())
    }
}

/// A character, escaped for the given quotes.
struct Escaped(char, char);

impl std::fmt::Display for Escaped {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            '\n' => formatter.write_str("\\n"),
            '\t' => formatter.write_str("\\t"),
            '\r' => formatter.write_str("\\r"),
            c if c == '\\' || c == self.1 => write!(formatter, "\\{c}"),
            ' '..='~' => formatter.write_char(self.0),
            c => write!(formatter, "\\{}", u32::from(c)),
        }
    }
}

fn advance<'i>(input: &mut Input<'i>, bytes: usize) -> &'i str {
    let (read, rest) = input.input.split_at(bytes);
    input.input = rest;
    if bytes > 0 {
        input.state.clear();
    }
    read
}

/// Fails here with what would have been accepted.
pub(super) fn fail_here(input: &mut Input<'_>, expected: impl IntoIterator<Item = Expected>) -> ParseError {
    let found = input.input.chars().next().map_or(Found::End, Found::Text);
    input.state.fail(input.input.len(), found, expected);
    ParseError
}

/// A character.
pub(super) fn character<'i>(wanted: char) -> impl Fn(&mut Input<'i>) -> Parsed<char> {
    move |input| {
        if input.input.starts_with(wanted) {
            advance(input, wanted.len_utf8());
            Ok(wanted)
        } else {
            Err(fail_here(input, [Expected::Character(wanted)]))
        }
    }
}

/// Any character.
pub(super) fn any(input: &mut Input<'_>) -> Parsed<char> {
    let Some(c) = input.input.chars().next() else {
        return Err(fail_here(input, []));
    };
    advance(input, c.len_utf8());
    Ok(c)
}

/// A literal text. A partial match counts as consumed: only [`attempt`] allows an alternative then.
pub(super) fn literal<'i>(wanted: &'static str) -> impl Fn(&mut Input<'i>) -> Parsed<&'i str> {
    move |input| {
        if input.input.starts_with(wanted) {
            return Ok(advance(input, wanted.len()));
        }
        let left = input.input.len();
        let same = wanted
            .chars()
            .zip(input.input.chars())
            .take_while(|(a, b)| a == b)
            .map(|(a, _)| a.len_utf8())
            .sum();
        advance(input, same);
        let found = input.input.chars().next().map_or(Found::End, Found::Text);
        input.state.fail(left, found, [Expected::Literal(wanted)]);
        Err(ParseError)
    }
}

/// A literal text, case-insensitive in ASCII.
pub(super) fn literal_in_any_case<'i>(wanted: &'static str) -> impl Fn(&mut Input<'i>) -> Parsed<()> {
    move |input| {
        for c in wanted.chars() {
            either(input, character(c), character(c.to_ascii_uppercase()))?;
        }
        Ok(())
    }
}

/// The longest run of accepted characters, possibly empty.
pub(super) fn run<'i>(
    input: &mut Input<'i>,
    accepts: impl Fn(char) -> bool,
    expected: &[Expected],
) -> &'i str {
    let length = input.input.find(|c| !accepts(c)).unwrap_or(input.input.len());
    let read = advance(input, length);
    fail_here(input, expected.iter().copied());
    read
}

/// The longest run of accepted characters, at least one.
pub(super) fn some_run<'i>(
    input: &mut Input<'i>,
    accepts: impl Fn(char) -> bool,
    expected: &[Expected],
) -> Parsed<&'i str> {
    let read = run(input, accepts, expected);
    if read.is_empty() { Err(ParseError) } else { Ok(read) }
}

/// The rest of the input.
pub(super) fn rest<'i>(input: &mut Input<'i>) -> &'i str {
    advance(input, input.input.len())
}

/// The end of the text.
pub(super) fn end(input: &mut Input<'_>) -> Parsed<()> {
    match input.input.chars().next() {
        None => Ok(()),
        Some(c) => {
            let expected = [Expected::Label("end of input")];
            input.state.fail(input.input.len(), Found::Character(c), expected);
            Err(ParseError)
        }
    }
}

/// Fails before a character that `rejects` matches; consumes nothing.
pub(super) fn not_before<'i>(
    rejects: impl Fn(char) -> bool,
    expected: Option<Expected>,
) -> impl Fn(&mut Input<'i>) -> Parsed<()> {
    move |input| match input.input.chars().next() {
        Some(c) if rejects(c) => {
            // like PostgREST, the position is after the character
            input.state.fail(input.input.len() - c.len_utf8(), Found::Character(c), []);
            Err(ParseError)
        }
        _ => {
            fail_here(input, expected);
            Ok(())
        }
    }
}

/// The first alternative, unless it fails without consuming input; then the second.
pub(super) fn either<'i, T>(
    input: &mut Input<'i>,
    first: impl FnOnce(&mut Input<'i>) -> Parsed<T>,
    second: impl FnOnce(&mut Input<'i>) -> Parsed<T>,
) -> Parsed<T> {
    let left = input.input.len();
    match first(input) {
        Err(ParseError) if input.input.len() == left => second(input),
        other => other,
    }
}

/// Backtracks when `parser` fails.
pub(super) fn attempt<'i, T>(
    input: &mut Input<'i>,
    parser: impl FnOnce(&mut Input<'i>) -> Parsed<T>,
) -> Parsed<T> {
    let text = input.input;
    let known = input.state.furthest.clone();
    parser(input).inspect_err(|_| {
        input.input = text;
        input.state.restore(known);
    })
}

/// `None` when `parser` fails without consuming input.
pub(super) fn optional<'i, T>(
    input: &mut Input<'i>,
    parser: impl FnOnce(&mut Input<'i>) -> Parsed<T>,
) -> Parsed<Option<T>> {
    either(input, |input| parser(input).map(Some), |_| Ok(None))
}

/// Lookahead: parses and resets the position.
pub(super) fn ahead<'i, T>(
    input: &mut Input<'i>,
    parser: impl FnOnce(&mut Input<'i>) -> Parsed<T>,
) -> Parsed<T> {
    let text = input.input;
    let known = input.state.furthest.clone();
    let ahead = parser(input)?;
    input.input = text;
    input.state.furthest = known;
    Ok(ahead)
}

/// `parser` with a label that replaces everything it expects at its start.
pub(super) fn labelled<'i, T>(
    input: &mut Input<'i>,
    label: &'static str,
    parser: impl FnOnce(&mut Input<'i>) -> Parsed<T>,
) -> Parsed<T> {
    let left = input.input.len();
    let known = input.state.take();
    let result = parser(input);
    if input.input.len() == left {
        if let Some(own) = &mut input.state.furthest
            && (result.is_err() || !own.is_empty())
        {
            own.expected.clear();
            own.expected.push(Expected::Label(label));
        }
        input.state.restore(known);
    }
    result
}

/// One or more of `item`, with `separator` between.
pub(super) fn separated<'i, T, S>(
    input: &mut Input<'i>,
    mut item: impl FnMut(&mut Input<'i>) -> Parsed<T>,
    mut separator: impl FnMut(&mut Input<'i>) -> Parsed<S>,
) -> Parsed<Vec<T>> {
    let mut items = vec![item(input)?];
    while optional(input, &mut separator)?.is_some() {
        items.push(item(input)?);
    }
    Ok(items)
}

/// `parser`, optionally surrounded by spaces.
pub(super) fn spaced<'i, T>(
    input: &mut Input<'i>,
    parser: impl FnOnce(&mut Input<'i>) -> Parsed<T>,
) -> Parsed<T> {
    spaces(input);
    let result = parser(input)?;
    spaces(input);
    Ok(result)
}

fn spaces(input: &mut Input<'_>) {
    run(input, |c| matches!(c, ' ' | '\t'), &[]);
}

/// `parser`, one nesting level deeper.
pub(super) fn deeper<'i, T>(
    input: &mut Input<'i>,
    (deepest, rule): Depth,
    parser: impl FnOnce(&mut Input<'i>) -> Parsed<T>,
) -> Parsed<T> {
    if input.state.depth >= deepest {
        return Err(fail_here(input, [Expected::Label(rule)]));
    }
    input.state.depth += 1;
    let result = parser(input);
    input.state.depth = input.state.depth.saturating_sub(1);
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::field::embedded_field;
    use super::super::logic::logic_tree;
    use super::super::order::order;
    use super::super::select::selection;
    use super::*;

    fn check<T: std::fmt::Debug>(
        text: &str,
        parser: for<'i> fn(&mut Input<'i>) -> Parsed<T>,
    ) -> Result<(), TestCaseError> {
        let outcome = |state| {
            let mut input = Input { input: text, state };
            let parsed = parser(&mut input);
            format!("{parsed:?}, {:?} is left", input.input)
        };
        prop_assert_eq!(outcome(Progress::default()), outcome(Progress::recording()));
        Ok(())
    }

    proptest! {
        #[test]
        fn recording_failures_does_not_affect_parsing(
            text in "(a|b|7|\\*|count|not|and|or|eq|in|is|null|sum|asc|desc|inner|->|::|\\.\\.\\.|[.,:!()>\"\\\\{} -]){0,16}",
        ) {
            check(&text, selection)?;
            check(&text, order)?;
            check(&text, logic_tree)?;
            check(&text, embedded_field)?;
        }
    }
}
