//! CSV bodies ([RFC 4180](https://www.rfc-editor.org/rfc/rfc4180)).
//!
//! Does not interpret the header record and does not guess: an unclosed quote, or a quote inside an unquoted field,
//! is an error.

use std::borrow::Cow;

/// A record and its position.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'t> {
    /// The text from the record's first character on.
    pub(super) from: &'t str,
    /// At least one.
    pub(super) fields: Vec<Field<'t>>,
}

/// A field without quotes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field<'t> {
    pub(super) text: Cow<'t, str>,
    /// Whether it was quoted: an empty text is, null is not.
    pub(super) quoted: bool,
}

/// The records of a text, without blank lines; ends with the first error.
pub(super) fn records(text: &str) -> impl Iterator<Item = Result<Record<'_>, String>> {
    // a byte order mark is not part of the first name
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(['\r', '\n']);
        if rest.is_empty() {
            return None;
        }
        let from = rest;
        let record = fields(&mut rest)
            .map(|fields| Record { from, fields })
            .map_err(|(mistake, at)| format!("parse error on line {}: {mistake}", line(text, at)));
        if record.is_err() {
            rest = "";
        }
        Some(record)
    })
}

/// The line number, from 1, at which `rest` starts. A carriage return ends a line too, alone or before a line feed.
pub(super) fn line(text: &str, rest: &str) -> usize {
    let passed = &text.as_bytes()[..text.len() - rest.len()];
    let returns_alone = memchr::memchr_iter(b'\r', passed).filter(|at| passed.get(at + 1) != Some(&b'\n'));
    1 + memchr::memchr_iter(b'\n', passed).count() + returns_alone.count()
}

/// An error message, and the text at its position.
type Mistake<'t> = (String, &'t str);

fn fields<'t>(rest: &mut &'t str) -> Result<Vec<Field<'t>>, Mistake<'t>> {
    let mut fields = Vec::new();
    loop {
        fields.push(field(rest)?);
        if let Some(behind) = rest.strip_prefix(',') {
            *rest = behind;
        } else if rest.is_empty() || rest.starts_with(['\r', '\n']) {
            return Ok(fields);
        } else {
            let there = rest.chars().next().unwrap_or_default();
            return Err((format!("{there:?} after the closing quote of a CSV field"), rest));
        }
    }
}

fn field<'t>(rest: &mut &'t str) -> Result<Field<'t>, Mistake<'t>> {
    let start = *rest;
    let Some(mut quoted) = start.strip_prefix('"') else {
        let end = memchr::memchr3(b',', b'\r', b'\n', start.as_bytes()).unwrap_or(start.len());
        let (text, behind) = start.split_at(end);
        if let Some(quote) = memchr::memchr(b'"', text.as_bytes()) {
            return Err(("a quote inside of a CSV field without quotes".into(), &start[quote..]));
        }
        *rest = behind;
        return Ok(Field { text: Cow::Borrowed(text), quoted: false });
    };
    let mut text = Cow::Borrowed("");
    loop {
        let Some(end) = memchr::memchr(b'"', quoted.as_bytes()) else {
            return Err(("a quoted CSV field has no end".into(), start));
        };
        let (part, behind) = (&quoted[..end], &quoted[end + 1..]);
        text += part;
        if let Some(more) = behind.strip_prefix('"') {
            text += "\"";
            quoted = more;
        } else {
            *rest = behind;
            return Ok(Field { text, quoted: true });
        }
    }
}
