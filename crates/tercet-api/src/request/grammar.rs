//! The parts every grammar of the query string is made of.
//!
//! Input remembers what would have been accepted at the furthest point it was refused at, and forgets it as soon as it gets on: that
//! is how PostgREST finds what a PGRST100 says was "unexpected" and what was "expecting". So [`either`], [`attempt`], [`optional`]
//! and [`labelled`] are used here in place of winnow's own alternatives, which keep no such record; sequences are winnow's.
//! What is remembered never decides what is accepted, so [`read`] remembers nothing at first, and reads again what it must refuse.

use std::fmt::Write as _;

use smallvec::SmallVec;
use winnow::error::ParserError;
use winnow::stream::{Stateful, Stream};

use crate::error::RequestError;

/// Text still to be read, and what is known about where reading will fail.
pub(super) type Input<'i> = Stateful<&'i str, Progress>;

/// What a parser gives.
pub(super) type Parsed<T> = Result<T, Refused>;

/// How deep brackets may be inside each other, and what those who go deeper are told.
pub(super) type Depth = (usize, &'static str);

/// The input is not what the parser reads; [`Progress`] knows why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused;

impl<I: Stream> ParserError<I> for Refused {
    type Inner = Self;

    fn from_input(_input: &I) -> Self {
        Self
    }

    fn into_inner(self) -> Result<Self::Inner, Self> {
        Ok(self)
    }
}

/// Something that would have been accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// This character.
    Character(char),
    /// This text.
    Literal(&'static str),
    /// Something with a name.
    Label(&'static str),
}

/// What stood where something else was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    End,
    /// Shown as text.
    Text(char),
    /// Shown as a character: it was not to be there, whatever else was.
    Character(char),
}

/// What is known besides the text.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// The furthest refusal so far, where it is remembered.
    furthest: Option<Box<Refusal>>,
    depth: usize,
}

/// What was refused somewhere, and what would have been accepted there.
#[derive(Debug, Clone, Default)]
struct Refusal {
    /// Bytes that were left there.
    left: usize,
    found: Option<Found>,
    expected: SmallVec<[Expected; 8]>,
}

impl Refusal {
    fn is_empty(&self) -> bool {
        self.found.is_none() && self.expected.is_empty()
    }

    fn forget(&mut self) {
        self.found = None;
        self.expected.clear();
    }

    fn add(&mut self, left: usize, found: Found, expected: impl IntoIterator<Item = Expected>) {
        if self.is_empty() || left < self.left {
            self.forget();
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
    fn remembering() -> Self {
        Self { furthest: Some(Box::default()), depth: 0 }
    }

    fn forget(&mut self) {
        if let Some(furthest) = &mut self.furthest {
            furthest.forget();
        }
    }

    fn refuse(&mut self, left: usize, found: Found, expected: impl IntoIterator<Item = Expected>) {
        if let Some(furthest) = &mut self.furthest {
            furthest.add(left, found, expected);
        }
    }

    /// Puts back what was known before `later`, and adds that to it.
    fn resume(&mut self, known: Option<Box<Refusal>>) {
        let later = std::mem::replace(&mut self.furthest, known);
        if let Some(later) = later
            && let Some(found) = later.found
        {
            self.refuse(later.left, found, later.expected);
        }
    }

    /// Takes what is known, as if nothing had been read yet.
    fn take(&mut self) -> Option<Box<Refusal>> {
        self.furthest.as_mut().map(std::mem::take)
    }
}

/// Reads the whole of `text` with `parser`; an error says that it is a `kind`, and shows `shown` of it.
pub(super) fn read<'i, T>(
    text: &'i str,
    kind: &str,
    shown: &str,
    parser: impl Fn(&mut Input<'i>) -> Parsed<T>,
) -> Result<T, RequestError> {
    read_closed(text, kind, shown, &[], parser)
}

/// The same; characters of `closing` too many at the end mean nothing.
pub(super) fn read_closed<'i, T>(
    text: &'i str,
    kind: &str,
    shown: &str,
    closing: &[char],
    parser: impl Fn(&mut Input<'i>) -> Parsed<T>,
) -> Result<T, RequestError> {
    // PostgREST leaves a rest unread; what nobody has read is no part of what was asked for
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
    let mut input = Input { input: text, state: Progress::remembering() };
    whole(&mut input).map_err(|Refused| {
        let refusal = input.state.furthest.unwrap_or_default();
        let read = text.get(..text.len().saturating_sub(refusal.left)).unwrap_or(text);
        let (line, column) = place(read);
        RequestError::Parameter {
            message: format!("\"failed to parse {kind} ({shown})\" (line {line}, column {column})"),
            details: refusal.to_string(),
        }
    })
}

/// Line and column behind a text, both from 1, tabs to the next eighth.
fn place(read: &str) -> (usize, usize) {
    read.chars().fold((1, 1), |(line, column), c| match c {
        '\n' => (line + 1, 1),
        '\t' => (line, column + 8 - (column - 1) % 8),
        _ => (line, column + 1),
    })
}

impl std::fmt::Display for Refusal {
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

/// A character between quotes of a kind.
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
        input.state.forget();
    }
    read
}

/// Refuses what stands here, where this would have been accepted.
pub(super) fn refuse_here(input: &mut Input<'_>, expected: impl IntoIterator<Item = Expected>) -> Refused {
    let found = input.input.chars().next().map_or(Found::End, Found::Text);
    input.state.refuse(input.input.len(), found, expected);
    Refused
}

/// This character.
pub(super) fn character<'i>(wanted: char) -> impl Fn(&mut Input<'i>) -> Parsed<char> {
    move |input| {
        if input.input.starts_with(wanted) {
            advance(input, wanted.len_utf8());
            Ok(wanted)
        } else {
            Err(refuse_here(input, [Expected::Character(wanted)]))
        }
    }
}

/// Any character.
pub(super) fn any(input: &mut Input<'_>) -> Parsed<char> {
    let Some(c) = input.input.chars().next() else {
        return Err(refuse_here(input, []));
    };
    advance(input, c.len_utf8());
    Ok(c)
}

/// This text. Refused in its middle, it counts as begun: only [`attempt`] makes way for an alternative then.
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
        input.state.refuse(left, found, [Expected::Literal(wanted)]);
        Err(Refused)
    }
}

/// This text in ASCII letters of either case.
pub(super) fn literal_in_any_case<'i>(wanted: &'static str) -> impl Fn(&mut Input<'i>) -> Parsed<()> {
    move |input| {
        for c in wanted.chars() {
            either(input, character(c), character(c.to_ascii_uppercase()))?;
        }
        Ok(())
    }
}

/// As many characters as are accepted, maybe none.
pub(super) fn run<'i>(
    input: &mut Input<'i>,
    accepts: impl Fn(char) -> bool,
    expected: &[Expected],
) -> &'i str {
    let length = input.input.find(|c| !accepts(c)).unwrap_or(input.input.len());
    let read = advance(input, length);
    refuse_here(input, expected.iter().copied());
    read
}

/// As many characters as are accepted, at least one.
pub(super) fn some_run<'i>(
    input: &mut Input<'i>,
    accepts: impl Fn(char) -> bool,
    expected: &[Expected],
) -> Parsed<&'i str> {
    let read = run(input, accepts, expected);
    if read.is_empty() { Err(Refused) } else { Ok(read) }
}

/// Everything that is left.
pub(super) fn rest<'i>(input: &mut Input<'i>) -> &'i str {
    advance(input, input.input.len())
}

/// The end of the text.
pub(super) fn end(input: &mut Input<'_>) -> Parsed<()> {
    match input.input.chars().next() {
        None => Ok(()),
        Some(c) => {
            let expected = [Expected::Label("end of input")];
            input.state.refuse(input.input.len(), Found::Character(c), expected);
            Err(Refused)
        }
    }
}

/// Refuses what begins with a character that `refuses`; reads nothing.
pub(super) fn not_before<'i>(
    refuses: impl Fn(char) -> bool,
    expected: Option<Expected>,
) -> impl Fn(&mut Input<'i>) -> Parsed<()> {
    move |input| match input.input.chars().next() {
        Some(c) if refuses(c) => {
            // where PostgREST says it is: behind the character
            input.state.refuse(input.input.len() - c.len_utf8(), Found::Character(c), []);
            Err(Refused)
        }
        _ => {
            refuse_here(input, expected);
            Ok(())
        }
    }
}

/// The first of two, unless it refuses before it has read anything; then the second.
pub(super) fn either<'i, T>(
    input: &mut Input<'i>,
    first: impl FnOnce(&mut Input<'i>) -> Parsed<T>,
    second: impl FnOnce(&mut Input<'i>) -> Parsed<T>,
) -> Parsed<T> {
    let left = input.input.len();
    match first(input) {
        Err(Refused) if input.input.len() == left => second(input),
        other => other,
    }
}

/// As if nothing had been read when `parser` refuses.
pub(super) fn attempt<'i, T>(
    input: &mut Input<'i>,
    parser: impl FnOnce(&mut Input<'i>) -> Parsed<T>,
) -> Parsed<T> {
    let text = input.input;
    let known = input.state.furthest.clone();
    parser(input).inspect_err(|_| {
        input.input = text;
        input.state.resume(known);
    })
}

/// Nothing when `parser` refuses before it has read anything.
pub(super) fn optional<'i, T>(
    input: &mut Input<'i>,
    parser: impl FnOnce(&mut Input<'i>) -> Parsed<T>,
) -> Parsed<Option<T>> {
    either(input, |input| parser(input).map(Some), |_| Ok(None))
}

/// `parser`, and then the place where it began.
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

/// `parser` under a name that stands for all it expects at its beginning.
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
        input.state.resume(known);
    }
    result
}

/// `item` again and again, with `separator` between; at least one.
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

/// `parser` with spaces around it.
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

/// `parser` one bracket deeper.
pub(super) fn deeper<'i, T>(
    input: &mut Input<'i>,
    (deepest, rule): Depth,
    parser: impl FnOnce(&mut Input<'i>) -> Parsed<T>,
) -> Parsed<T> {
    if input.state.depth >= deepest {
        return Err(refuse_here(input, [Expected::Label(rule)]));
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
        prop_assert_eq!(outcome(Progress::default()), outcome(Progress::remembering()));
        Ok(())
    }

    proptest! {
        #[test]
        fn what_is_remembered_decides_nothing(
            text in "(a|b|7|\\*|count|not|and|or|eq|in|is|null|sum|asc|desc|inner|->|::|\\.\\.\\.|[.,:!()>\"\\\\{} -]){0,16}",
        ) {
            check(&text, selection)?;
            check(&text, order)?;
            check(&text, logic_tree)?;
            check(&text, embedded_field)?;
        }
    }
}
