//! CSV bodies ([RFC 4180](https://www.rfc-editor.org/rfc/rfc4180)).
//!
//! Refuses to know what the first record means.

use std::borrow::Cow;

/// Records of a text, blank lines left out; the first mistake ends them.
pub(super) fn records(text: &str) -> impl Iterator<Item = Result<Vec<Cow<'_, str>>, String>> {
    // a byte order mark is no part of the first name
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(['\r', '\n']);
        if rest.is_empty() {
            return None;
        }
        let record = record(&mut rest);
        if record.is_err() {
            rest = "";
        }
        Some(record)
    })
}

fn record<'t>(rest: &mut &'t str) -> Result<Vec<Cow<'t, str>>, String> {
    let mut fields = Vec::new();
    loop {
        fields.push(field(rest)?);
        if let Some(behind) = rest.strip_prefix(',') {
            *rest = behind;
        } else if rest.is_empty() || rest.starts_with(['\r', '\n']) {
            return Ok(fields);
        } else {
            let there = rest.chars().next().unwrap_or_default();
            return Err(format!("parse error: {there:?} after the closing quote of a CSV field"));
        }
    }
}

fn field<'t>(rest: &mut &'t str) -> Result<Cow<'t, str>, String> {
    let Some(mut quoted) = rest.strip_prefix('"') else {
        let (field, behind) = rest.split_at(rest.find([',', '\r', '\n']).unwrap_or(rest.len()));
        *rest = behind;
        return Ok(Cow::Borrowed(field));
    };
    let mut field = Cow::Borrowed("");
    loop {
        let Some((part, behind)) = quoted.split_once('"') else {
            return Err("parse error: a quoted CSV field has no end".into());
        };
        field += part;
        if let Some(more) = behind.strip_prefix('"') {
            field += "\"";
            quoted = more;
        } else {
            *rest = behind;
            return Ok(field);
        }
    }
}
