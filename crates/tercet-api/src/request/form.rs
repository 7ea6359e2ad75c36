//! `application/x-www-form-urlencoded`: query strings, and bodies of forms.
//!
//! Refuses to know what the names mean.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

use crate::error::RequestError;

/// Everything but letters, digits and `-_.~` ([RFC 3986 §2.3](https://www.rfc-editor.org/rfc/rfc3986#section-2.3)).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Names and values in their order, decoded; a name without `=` has no value.
///
/// # Errors
/// 22021 where what is decoded is no text that PostgreSQL has: bytes that are not UTF-8, and NUL.
pub(super) fn decode(form: &[u8]) -> Result<Vec<(String, Option<String>)>, RequestError> {
    form.split(|byte| matches!(byte, b'&' | b';'))
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            Ok(match memchr::memchr(b'=', pair) {
                Some(at) => (decode_part(&pair[..at])?, Some(decode_part(&pair[at + 1..])?)),
                None => (decode_part(pair)?, None),
            })
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

fn decode_part(part: &[u8]) -> Result<String, RequestError> {
    let bytes: Cow<'_, [u8]> = if part.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        let spaced: Vec<u8> = part.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
        percent_decode(&spaced).collect::<Vec<u8>>().into()
    } else {
        part.into()
    };
    text(&bytes).map(str::to_owned).map_err(|(before, bytes)| RequestError::Encoding {
        bytes,
        place: format!(
            "failed to decode \"{}\" (line 1, column {})",
            String::from_utf8_lossy(part),
            sent(part, before.len()) + 1
        ),
    })
}

/// How many bytes stand for so many decoded ones.
fn sent(part: &[u8], decoded: usize) -> usize {
    let digit = |at: usize| part.get(at).is_some_and(u8::is_ascii_hexdigit);
    (0..decoded).fold(0, |at, _| {
        at + if part.get(at) == Some(&b'%') && digit(at + 1) && digit(at + 2) { 3 } else { 1 }
    })
}

/// The text that bytes are; else the text before the first that are none, and those, as PostgreSQL prints them.
pub(super) fn text(bytes: &[u8]) -> Result<&str, (&str, String)> {
    let (text, wrong) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, &[][..]),
        Err(error) => {
            let (valid, rest) = bytes.split_at(error.valid_up_to());
            let length = error.error_len().unwrap_or(rest.len());
            (std::str::from_utf8(valid).unwrap_or_default(), rest.get(..length).unwrap_or(rest))
        }
    };
    match text.split_once('\0') {
        Some((before, _)) => Err((before, "0x00".to_owned())),
        None if wrong.is_empty() => Ok(text),
        None => {
            let printed: Vec<String> = wrong.iter().map(|byte| format!("0x{byte:02x}")).collect();
            Err((text, printed.join(" ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(form: &str, expect: &Expect) {
        let actual = match decode(form.as_bytes()) {
            Ok(pairs) => canonical(&pairs),
            Err(error) => format!("{} {error}: {}", error.code(), error.details().unwrap_or_default()),
        };
        expect.assert_eq(&actual);
    }

    #[test]
    fn sorts_decodes_and_encodes() {
        check("", &expect![[""]]);
        check("a=1&c=3&b=2&d", &expect![["a=1&b=2&c=3&d="]]);
        check("a=1;a=2&&a", &expect![["a=1,2,"]]);
        check("n=caf%C3%A9+au%20lait&m=%zz%", &expect![["m=%25zz%25&n=caf%C3%A9%20au%20lait"]]);
        check("select=a,b(*)&x->>y=eq.%22%22", &expect![["select=a%2Cb%28%2A%29&x-%3E%3Ey=eq.%22%22"]]);
    }

    #[test]
    fn refuses_what_is_no_text() {
        check(
            "a=b%00c",
            &expect![[
                r#"22021 invalid byte sequence for encoding "UTF8": 0x00: failed to decode "b%00c" (line 1, column 2)"#
            ]],
        );
        check(
            "%00=1",
            &expect![[
                r#"22021 invalid byte sequence for encoding "UTF8": 0x00: failed to decode "%00" (line 1, column 1)"#
            ]],
        );
        check(
            "ok=1&n%ffx=%ff",
            &expect![[
                r#"22021 invalid byte sequence for encoding "UTF8": 0xff: failed to decode "n%ffx" (line 1, column 2)"#
            ]],
        );
        check(
            "a=caf%C3%A9%E2%82",
            &expect![[
                r#"22021 invalid byte sequence for encoding "UTF8": 0xe2 0x82: failed to decode "caf%C3%A9%E2%82" (line 1, column 10)"#
            ]],
        );
        check(
            "a=%ed%a0%80",
            &expect![[
                r#"22021 invalid byte sequence for encoding "UTF8": 0xed: failed to decode "%ed%a0%80" (line 1, column 1)"#
            ]],
        );
        check(
            "a=%00%ff",
            &expect![[
                r#"22021 invalid byte sequence for encoding "UTF8": 0x00: failed to decode "%00%ff" (line 1, column 1)"#
            ]],
        );
    }
}
