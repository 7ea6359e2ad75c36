//! `application/x-www-form-urlencoded`: query strings and form bodies.
//!
//! Does not interpret names.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::error::RequestError;

/// Everything but letters, digits and `-_.~` ([RFC 3986 §2.3](https://www.rfc-editor.org/rfc/rfc3986#section-2.3)).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// How a percent sign without two hexadecimal digits is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StrayPercent {
    /// Literal as a literal.
    Literal,
    /// Rejected.
    Rejected,
}

/// Names and values in order, decoded; a name without `=` has no value.
///
/// # Errors
/// 22021 if the decoded bytes are not UTF-8 or contain NUL, PGRST100 if decoding fails.
pub(super) fn decode(
    form: &[u8],
    stray: StrayPercent,
) -> impl Iterator<Item = Result<(String, Option<String>), RequestError>> {
    form.split(|byte| matches!(byte, b'&' | b';')).filter(|pair| !pair.is_empty()).map(move |pair| {
        Ok(match memchr::memchr(b'=', pair) {
            Some(at) => (decode_part(&pair[..at], stray)?, Some(decode_part(&pair[at + 1..], stray)?)),
            None => (decode_part(pair, stray)?, None),
        })
    })
}

/// A path segment, decoded; a plus sign is a literal.
///
/// # Errors
/// As those of [`decode`].
pub(super) fn decode_segment(segment: &str) -> Result<String, RequestError> {
    decode_bytes(segment.as_bytes(), StrayPercent::Rejected, |byte| byte)
}

/// The same with sorted names, each with its values: equivalent requests have the same canonical text.
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

fn decode_part(part: &[u8], stray: StrayPercent) -> Result<String, RequestError> {
    decode_bytes(part, stray, |byte| if byte == b'+' { b' ' } else { byte })
}

fn decode_bytes(
    part: &[u8],
    stray: StrayPercent,
    unencoded: impl Fn(u8) -> u8,
) -> Result<String, RequestError> {
    let position = |column: usize| {
        format!("failed to decode \"{}\" (line 1, column {column})", String::from_utf8_lossy(part))
    };
    let mut bytes = Vec::with_capacity(part.len());
    let mut at = 0;
    while let Some(&byte) = part.get(at) {
        if let Some(encoded) = encoded(part, at) {
            bytes.push(encoded);
            at += 3;
        } else if byte == b'%' && stray == StrayPercent::Rejected {
            return Err(RequestError::PercentEncoding(position(at + 1)));
        } else {
            bytes.push(unencoded(byte));
            at += 1;
        }
    }
    match text(&bytes) {
        Ok(_) => Ok(String::from_utf8(bytes).unwrap_or_default()),
        Err((before, bytes)) => {
            Err(RequestError::Encoding { bytes, position: position(encoded_length(part, before.len()) + 1) })
        }
    }
}

/// The byte encoded at this position, if any.
fn encoded(part: &[u8], at: usize) -> Option<u8> {
    let [b'%', high, low] = *part.get(at..at + 3)? else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

/// The encoded length of this many decoded bytes.
fn encoded_length(part: &[u8], decoded: usize) -> usize {
    (0..decoded).fold(0, |at, _| at + if encoded(part, at).is_some() { 3 } else { 1 })
}

/// The bytes as text; otherwise the text before the first invalid bytes, and those in PostgreSQL's notation.
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
        let decoded: Result<Vec<_>, _> = decode(form.as_bytes(), StrayPercent::Literal).collect();
        let actual = match decoded {
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
    fn rejects_a_stray_percent_sign() {
        for (part, column) in
            [("%", 1), ("a%", 2), ("%4", 1), ("%zz", 1), ("%41%4g", 4), ("+%+4", 2), ("%%41", 1)]
        {
            let refused = decode(part.as_bytes(), StrayPercent::Rejected).next().unwrap().unwrap_err();
            let position = format!("failed to decode \"{part}\" (line 1, column {column})");
            assert_eq!(refused, RequestError::PercentEncoding(position));
        }
        assert_eq!(decode_segment("a+b%2Fc%25"), Ok("a+b/c%".to_owned()));
        assert!(
            decode_segment("a%").is_err()
                && decode_segment("a%00").is_err()
                && decode_segment("%ff").is_err()
        );
    }

    #[test]
    fn rejects_bytes_that_are_no_text() {
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
