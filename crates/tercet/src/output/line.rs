//! One line of the merged log.

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
    fn neighbours_have_different_colours() {
        let colours = ["up", "balancer", "app-1", "app-2", "database"].map(Colour::of);
        for (index, colour) in colours.iter().enumerate() {
            assert!(!colours[..index].contains(colour), "{colours:?}");
        }
    }
}
