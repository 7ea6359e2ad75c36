//! The file that `env-file` names: a variable a line, `NAME=value`.

/// The variables of such a file. Empty lines, comments (`#`), a leading `export` and quotes around a value are as in a shell.
///
/// # Errors
/// The number of the first line that is none of it, counted from 1. Its text may be a secret.
pub fn variables(text: &str) -> Result<Vec<(&str, &str)>, usize> {
    let lines = (1..).zip(text.lines());
    lines.filter_map(|(number, line)| variable(line).map_err(|()| number).transpose()).collect()
}

/// The name and value of a line; `None` for an empty one or a comment.
fn variable(line: &str) -> Result<Option<(&str, &str)>, ()> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or(())?;
    let name = name.trim_end();
    let value = value.trim();
    let unquoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    if is_name(name) { Ok(Some((name, unquoted.unwrap_or(value)))) } else { Err(()) }
}

/// Whether it is the name of a variable in POSIX.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_variables_comments_or_mistakes() {
        assert_eq!(variables("A=1\n\n# B=2\nC='3'\n"), Ok(vec![("A", "1"), ("C", "3")]));
        assert_eq!(variables("A=1\nsecret\n"), Err(2));
        assert_eq!(variable("  # comment"), Ok(None));
        assert_eq!(variable("export A=b=c "), Ok(Some(("A", "b=c"))));
        assert_eq!(variable("KEY = \"a b\""), Ok(Some(("KEY", "a b"))));
        assert_eq!(variable("EMPTY="), Ok(Some(("EMPTY", ""))));
        assert_eq!(variable("no variable"), Err(()));
        assert_eq!(variable("a-b=c"), Err(()));
        assert_eq!(variable("1A=c"), Err(()));
    }
}
