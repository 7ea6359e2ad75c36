//! One line of the merged log.

use serde_json::Value;
use tercet_observe::event::SupervisorEvent;
use tercet_observe::format::{push_display, push_json_string, push_now};

/// A terminal colour that is legible on light and dark backgrounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Colour(u8);

impl Colour {
    /// The same name always gets the same colour; neighbouring parts get different ones.
    pub(crate) fn of(name: &str) -> Self {
        Self(match name {
            "up" => 2,
            "balancer" => 5,
            "database" => 4,
            _ => {
                let digits = name.bytes().filter(u8::is_ascii_digit);
                let number =
                    digits.fold(0_u8, |number, digit| number.wrapping_mul(10).wrapping_add(digit - b'0'));
                if number.is_multiple_of(2) { 3 } else { 6 }
            }
        })
    }
}

/// Appends the part's name: `app-1    │ `.
pub(super) fn push_prefix(line: &mut Vec<u8>, name: &str, width: usize, colour: Option<Colour>) {
    match colour {
        Some(Colour(colour)) => push_display(line, format_args!("\x1b[3{colour}m{name:width$} │\x1b[0m ")),
        None => push_display(line, format_args!("{name:width$} │ ")),
    }
}

/// Appends the time of day (UTC): `18:44:54 `.
pub(super) fn push_clock(line: &mut Vec<u8>) {
    let mut now = Vec::new();
    push_now(&mut now);
    line.extend_from_slice(clock(&String::from_utf8_lossy(&now)).as_bytes());
    line.push(b' ');
}

/// The time of day of a time in RFC 3339.
fn clock(time: &str) -> &str {
    time.get(11..19).unwrap_or(time)
}

/// A JSON line of a tier as text without its part's name; `None` if it is not one.
pub(super) fn readable(output: &[u8]) -> Option<String> {
    let event: Value = serde_json::from_slice(output).ok().filter(Value::is_object)?;
    let text = |name: &str| event[name].as_str();
    let time = clock(text("time")?);
    if event["event"] == "request" && event["message"].is_null() {
        let milliseconds = event["seconds"].as_f64()? * 1000.0;
        let method = text("method")?;
        let (target, status) = (text("target")?, event["status"].as_u64()?);
        let server = text("upstream").unwrap_or("-");
        return Some(format!("{time} {status} {method} {target} {server} {milliseconds:.1} ms"));
    }
    let level = text("level").filter(|level| *level != "info").map(|level| format!("{level}: "));
    Some(format!("{time} {}{}", level.unwrap_or_default(), text("message")?))
}

/// The line about an event while the parts start; `None` if there is none.
pub(super) fn brief(event: &SupervisorEvent<'_>) -> Option<String> {
    Some(match event {
        SupervisorEvent::PartReady { name, address, seconds } => {
            format!("  ✓ {name:10} {address:22} {seconds:.1} s")
        }
        SupervisorEvent::MigrateFinished { seconds } => {
            format!("  ✓ {:10} {:22} {seconds:.1} s", "migrate", "")
        }
        SupervisorEvent::MigrationsApplied { .. } | SupervisorEvent::SeedsApplied { .. } => {
            format!("  ✓ {event}")
        }
        SupervisorEvent::PortInUse { .. }
        | SupervisorEvent::PartNotReady { .. }
        | SupervisorEvent::SecretReadable { .. }
        | SupervisorEvent::StillRunning { .. }
        | SupervisorEvent::SeedsChanged { .. } => format!("  ! {event}"),
        SupervisorEvent::PartExited { .. } => format!("  ✗ {event}"),
        _ => return None,
    })
}

/// Appends a part's output. Colour sequences are kept, all other control characters are escaped.
pub(crate) fn push_text(line: &mut Vec<u8>, output: &[u8], colour: bool) {
    let text = String::from_utf8_lossy(output);
    let mut rest = &*text;
    let mut coloured = false;
    while let Some(character) = rest.chars().next() {
        if let Some(length) = colour_sequence(rest) {
            if colour {
                coloured = true;
                line.extend_from_slice(&rest.as_bytes()[..length]);
            }
            rest = &rest[length..];
            continue;
        }
        if character.is_control() && character != '\t' {
            push_display(line, character.escape_default());
        } else {
            push_display(line, character);
        }
        rest = &rest[character.len_utf8()..];
    }
    if coloured {
        line.extend_from_slice(b"\x1b[0m");
    }
}

/// The text with control characters escaped, without colours.
pub(crate) fn plain(text: &str) -> String {
    let mut line = Vec::with_capacity(text.len());
    push_text(&mut line, text.as_bytes(), false);
    String::from_utf8_lossy(&line).into_owned()
}

/// The length of the "select graphic rendition" sequence (ECMA-48) that the text begins with.
fn colour_sequence(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters[end..].starts_with('m').then_some(2 + end + 1)
}

/// Wraps a line of a part that does not log JSON.
pub(super) fn push_json(line: &mut Vec<u8>, name: &str, output: &[u8]) {
    line.extend_from_slice(b"{\"time\":\"");
    push_now(line);
    line.extend_from_slice(b"\",\"level\":\"info\",\"part\":");
    push_json_string(line, name.as_bytes());
    line.extend_from_slice(b",\"message\":");
    push_json_string(line, output);
    line.push(b'}');
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check(output: &[u8], colour: bool, expected: Expect) {
        let mut line = Vec::new();
        push_prefix(&mut line, "app-1", 8, colour.then_some(Colour::of("app-1")));
        push_text(&mut line, output, colour);
        expected.assert_eq(&String::from_utf8(line).unwrap().replace('\x1b', "ESC"));
    }

    #[test]
    fn colour_sequences_are_kept_and_other_control_characters_escaped() {
        check(b"plain\ttext \xff", false, expect!["app-1    │ plain\ttext \u{fffd}"]);
        check(b"\x1b[1;32mok\x1b[0m \x1b[2Jgone", false, expect![r"app-1    │ ok \u{1b}[2Jgone"]);
        check(
            b"\x1b[1;32mok\x1b]0;title\x07",
            true,
            expect![r"ESC[36mapp-1    │ESC[0m ESC[1;32mok\u{1b}]0;title\u{7}ESC[0m"],
        );
    }

    #[test]
    fn json_lines_of_tiers_are_readable() {
        let read = |line: &str| readable(line.as_bytes());
        let request = r#"{"time":"2026-11-29T18:46:27.434Z","level":"info","event":"request","part":"balancer","method":"GET","target":"/todo","upstream":"app-1","status":200,"seconds":0.138300}"#;
        assert_eq!(read(request).unwrap(), "18:46:27 200 GET /todo app-1 138.3 ms");
        let event =
            r#"{"time":"2026-11-29T18:46:27.434Z","level":"warn","part":"balancer","message":"a is down"}"#;
        assert_eq!(read(event).unwrap(), "18:46:27 warn: a is down");
        assert_eq!(read("{}"), None);
        assert_eq!(read("text"), None);
    }

    #[test]
    fn neighbours_have_different_colours() {
        let colours = ["up", "balancer", "app-1", "app-2", "database"].map(Colour::of);
        for (index, colour) in colours.iter().enumerate() {
            assert!(!colours[..index].contains(colour), "{colours:?}");
        }
    }
}
