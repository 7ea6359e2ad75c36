//! The command line of the user's program.
//!
//! It is split into words by the quoting rules of a shell, but no shell runs it. So no request or setting can become
//! a command.

use serde::{Deserialize, Serialize};

/// The placeholders of a command.
const PLACEHOLDERS: [&str; 2] = ["{host}", "{port}"];

/// A command with the placeholders `{host}` and `{port}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Program {
    words: Vec<String>,
}

impl Program {
    /// Splits the command; the error is the reason why it is invalid.
    pub(crate) fn parse(command: &str) -> Result<Self, String> {
        let words = shlex::split(command).ok_or("a quote is not closed")?;
        if words.first().is_none_or(String::is_empty) {
            return Err("there is no program in it".to_owned());
        }
        if words.iter().any(|word| word.contains('\0')) {
            return Err("there is a NUL in it".to_owned());
        }
        for word in &words {
            let mut rest = word.as_str();
            while let Some(start) = rest.find('{') {
                let Some(end) = rest[start..].find('}') else { break };
                let placeholder = &rest[start..=start + end];
                let name = &placeholder[1..placeholder.len() - 1];
                let meant =
                    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '-' || c == '_');
                if meant && !PLACEHOLDERS.contains(&placeholder) {
                    return Err(format!("{placeholder} is none of {}", PLACEHOLDERS.join(", ")));
                }
                rest = &rest[start + end + 1..];
            }
        }
        Ok(Self { words })
    }

    /// The program and its arguments, for a server that listens on `host` and `port`.
    pub fn words(&self, host: &str, port: u16) -> Vec<String> {
        let port = port.to_string();
        self.words.iter().map(|word| word.replace("{host}", host).replace("{port}", &port)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(command: &str, expected: Result<&[&str], &str>) {
        let words = Program::parse(command).map(|program| program.words("::1", 80));
        match expected {
            Ok(expected) => assert_eq!(words.unwrap(), expected),
            Err(expected) => assert_eq!(words.unwrap_err(), expected),
        }
    }

    #[test]
    fn a_command_is_words_and_placeholders() {
        check("node 'my app.js' {port}", Ok(&["node", "my app.js", "80"]));
        check("serve --bind={host}:{port}", Ok(&["serve", "--bind=::1:80"]));
        check("echo $HOME; rm *", Ok(&["echo", "$HOME;", "rm", "*"]));
        check(r#"jq '{"a": 1}'"#, Ok(&["jq", r#"{"a": 1}"#]));
    }

    #[test]
    fn a_command_that_cannot_run_is_refused() {
        check("run --url {database-url}", Err("{database-url} is none of {host}, {port}"));
        check("say 'hello", Err("a quote is not closed"));
        check("  ", Err("there is no program in it"));
        check("'' x", Err("there is no program in it"));
    }
}
