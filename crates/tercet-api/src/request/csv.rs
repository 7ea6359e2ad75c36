//! CSV bodies ([RFC 4180](https://www.rfc-editor.org/rfc/rfc4180)).
//!
//! Refuses to know what the first record means, and to guess: a quote that is not closed, or stands inside a field without quotes, is
//! a mistake.

use std::borrow::Cow;

/// A record and where it starts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'t> {
    /// Its first line, from 1.
    pub(super) line: usize,
    /// At least one.
    pub(super) fields: Vec<Field<'t>>,
}

/// A field without its quotes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Field<'t> {
    pub(super) text: Cow<'t, str>,
    /// Whether it had quotes: an empty text has, a null has none.
    pub(super) quoted: bool,
}

/// Records of a text, blank lines left out; the first mistake ends them.
pub(super) fn records(text: &str) -> impl Iterator<Item = Result<Record<'_>, String>> {
    // a byte order mark is no part of the first name
    let whole = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut rest = whole;
    let mut counted = Counted { line: 1, from: whole };
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(['\r', '\n']);
        if rest.is_empty() {
            return None;
        }
        let line = counted.line_of(rest);
        let record = fields(&mut rest)
            .map(|fields| Record { line, fields })
            .map_err(|(mistake, at)| format!("parse error on line {}: {mistake}", counted.line_of(at)));
        if record.is_err() {
            rest = "";
        }
        Some(record)
    })
}

/// The line of a place, counted on from the last one asked for.
struct Counted<'t> {
    line: usize,
    from: &'t str,
}

impl<'t> Counted<'t> {
    fn line_of(&mut self, rest: &'t str) -> usize {
        let passed = &self.from[..self.from.len() - rest.len()];
        // a carriage return ends a line as well, alone or before a line feed
        let (feeds, returns, both) =
            (passed.matches('\n').count(), passed.matches('\r').count(), passed.matches("\r\n").count());
        self.line += feeds + returns - both;
        self.from = rest;
        self.line
    }
}

/// What is wrong, and the text from there on.
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
        let (text, behind) = start.split_at(start.find([',', '\r', '\n']).unwrap_or(start.len()));
        if let Some(quote) = text.find('"') {
            return Err(("a quote inside of a CSV field without quotes".into(), &start[quote..]));
        }
        *rest = behind;
        return Ok(Field { text: Cow::Borrowed(text), quoted: false });
    };
    let mut text = Cow::Borrowed("");
    loop {
        let Some((part, behind)) = quoted.split_once('"') else {
            return Err(("a quoted CSV field has no end".into(), start));
        };
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
