//! The two shapes of a log line, and the escaping that keeps one event on one line.

use std::cell::RefCell;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Text: events as `time LEVEL part: message`, requests in the combined log format.
    #[default]
    Text,
    /// One JSON object per line (RFC 8259).
    Json,
}

/// Appends `value` so that it can neither end the line nor close the surrounding quotes: bytes outside
/// printable ASCII, `"` and `\` become `\xHH` (the escaping of nginx's combined log).
pub fn push_escaped(line: &mut Vec<u8>, value: &[u8]) {
    for &byte in value {
        match byte {
            b' '..=b'!' | b'#'..=b'[' | b']'..=b'~' => line.push(byte),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                line.extend_from_slice(&[
                    b'\\',
                    b'x',
                    HEX[usize::from(byte >> 4)],
                    HEX[usize::from(byte & 15)],
                ]);
            }
        }
    }
}

/// Appends `value` as a JSON string with its quotes (RFC 8259 section 7); invalid UTF-8 becomes U+FFFD.
pub fn push_json_string(line: &mut Vec<u8>, value: &[u8]) {
    line.push(b'"');
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => line.extend_from_slice(b"\\\""),
                '\\' => line.extend_from_slice(b"\\\\"),
                '\n' => line.extend_from_slice(b"\\n"),
                '\r' => line.extend_from_slice(b"\\r"),
                '\t' => line.extend_from_slice(b"\\t"),
                control if control.is_control() || matches!(control, '\u{2028}' | '\u{2029}') => {
                    push_display(line, format_args!("\\u{:04x}", control as u32));
                }
                other => line.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            line.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    line.push(b'"');
}

/// Appends anything that can be displayed.
pub fn push_display(line: &mut Vec<u8>, value: impl std::fmt::Display) {
    write!(line, "{value}").expect("writing to a Vec cannot fail");
}

/// Appends the current time as RFC 3339 in UTC with milliseconds.
pub fn push_now(line: &mut Vec<u8>) {
    push_instant(line, SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
}

/// Appends a time, given since the Unix epoch. A thread formats the seconds once for all its lines in them.
fn push_instant(line: &mut Vec<u8>, since_1970: Duration) {
    thread_local! {
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let seconds = since_1970.as_secs();
    SECOND.with_borrow_mut(|(formatted, text)| {
        if *formatted != seconds {
            let instant = i64::try_from(seconds).ok().and_then(|it| jiff::Timestamp::from_second(it).ok());
            *text = format!("{:.0}", instant.unwrap_or_default());
            *formatted = seconds;
        }
        line.extend_from_slice(text.trim_end_matches('Z').as_bytes());
    });
    let millis = since_1970.subsec_millis();
    let digits = [100, 10, 1].map(|place| b'0' + (millis / place % 10) as u8);
    line.extend_from_slice(&[b'.', digits[0], digits[1], digits[2], b'Z']);
}

/// Appends an IP address in its usual text form.
pub fn push_address(line: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    line.push(b'.');
                }
                line.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
            }
        }
        IpAddr::V6(address) => push_display(line, address),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check(append: fn(&mut Vec<u8>, &[u8]), value: &[u8], expected: Expect) {
        let mut line = Vec::new();
        append(&mut line, value);
        expected.assert_eq(&String::from_utf8(line).unwrap());
    }

    #[test]
    fn instants_are_rfc_3339_in_utc_with_milliseconds() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_793_504_801_007, "2026-11-01T03:46:41.007Z"),
            (1_793_504_801_950, "2026-11-01T03:46:41.950Z"),
        ] {
            let mut line = Vec::new();
            push_instant(&mut line, Duration::from_millis(millis));
            assert_eq!(String::from_utf8(line).unwrap(), expected);
        }
    }

    #[test]
    fn a_forged_line_stays_inside_its_quotes() {
        check(
            push_escaped,
            b"a\"b\\c\r\n127.0.0.1 - \xff",
            expect![[r"a\x22b\x5Cc\x0D\x0A127.0.0.1 - \xFF"]],
        );
        check(push_json_string, b"a\"b\\c\r\n\x01\xffz", expect![[r#""a\"b\\c\r\n\u0001�z""#]]);
    }
}
