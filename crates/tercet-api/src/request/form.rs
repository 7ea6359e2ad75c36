//! `application/x-www-form-urlencoded`: query strings, and bodies of forms.
//!
//! Refuses to know what the names mean.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

/// Everything but letters, digits and `-_.~` ([RFC 3986 §2.3](https://www.rfc-editor.org/rfc/rfc3986#section-2.3)).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Names and values in their order, decoded; a name without `=` has no value. Bytes that are not UTF-8 become U+FFFD.
pub(super) fn decode(form: &[u8]) -> Vec<(String, Option<String>)> {
    form.split(|byte| matches!(byte, b'&' | b';'))
        .filter(|pair| !pair.is_empty())
        .map(|pair| match memchr::memchr(b'=', pair) {
            Some(at) => (decode_part(&pair[..at]), Some(decode_part(&pair[at + 1..]))),
            None => (decode_part(pair), None),
        })
        .collect()
}

/// The same with names in alphabetical order, each once with its values behind commas: one text for all ways of asking the same.
pub(super) fn canonical(pairs: &[(String, Option<String>)]) -> String {
    let mut sorted: Vec<&(String, Option<String>)> = pairs.iter().collect();
    sorted.sort_by(|left, right| left.0.cmp(&right.0));
    let mut text = String::new();
    for group in sorted.chunk_by(|left, right| left.0 == right.0) {
        for (index, (name, value)) in group.iter().enumerate() {
            if index > 0 {
                text.push(',');
            } else {
                if !text.is_empty() {
                    text.push('&');
                }
                text.extend(utf8_percent_encode(name, RESERVED));
                text.push('=');
            }
            text.extend(utf8_percent_encode(value.as_deref().unwrap_or_default(), RESERVED));
        }
    }
    text
}

fn decode_part(part: &[u8]) -> String {
    if !part.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return String::from_utf8_lossy(part).into_owned();
    }
    let spaced: Vec<u8> = part.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    percent_decode(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(form: &str, expect: &Expect) {
        expect.assert_eq(&canonical(&decode(form.as_bytes())));
    }

    #[test]
    fn sorts_decodes_and_encodes() {
        check("", &expect![[""]]);
        check("a=1&c=3&b=2&d", &expect![["a=1&b=2&c=3&d="]]);
        check("a=1;a=2&&a", &expect![["a=1,2,"]]);
        check("n=caf%C3%A9+au%20lait&m=%zz%", &expect![["m=%25zz%25&n=caf%C3%A9%20au%20lait"]]);
        check("select=a,b(*)&x->>y=eq.%22%22", &expect![["select=a%2Cb%28%2A%29&x-%3E%3Ey=eq.%22%22"]]);
        check("%ff=%ff", &expect![["%EF%BF%BD=%EF%BF%BD"]]);
    }
}
