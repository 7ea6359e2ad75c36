//! Quoting in unit files.

use std::fmt::Write as _;

/// A word of a command line (systemd.service(5), "Command lines"): `$` would begin a variable.
pub(super) fn argument(word: &str) -> String {
    quoted(&word.replace('$', "$$"))
}

/// A double-quoted item of a unit file (systemd.syntax(7), "Quoting"): `%` would begin a specifier, and a line break
/// would end the setting.
pub(super) fn quoted(item: &str) -> String {
    let mut quoted = String::from("\"");
    for character in item.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '%' => quoted += "%%",
            _ if character.is_ascii_control() => {
                write!(quoted, "\\x{:02x}", u32::from(character)).expect("writing to a String cannot fail");
            }
            _ => quoted.push(character),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_characters_in_a_unit_file() {
        assert_eq!(argument("a b$c%d\"e\\f'g"), r#""a b$$c%%d\"e\\f'g""#);
        assert_eq!(argument("one\nExecStart=two"), r#""one\x0aExecStart=two""#);
        // No variable is expanded in a value of `Environment=`.
        assert_eq!(quoted("PORT=$1"), r#""PORT=$1""#);
    }
}
