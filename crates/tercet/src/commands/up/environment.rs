//! The environment variables of the user's program: DATABASE_URL, `env` and `env-file`.

use std::ffi::OsString;

use anyhow::{Context as _, bail};

use crate::project::Project;

/// The variables, for connections with `database_url`. The user's own precede the program's environment.
pub(super) fn variables(project: &Project, database_url: &str) -> anyhow::Result<Vec<(OsString, OsString)>> {
    let environment = &project.topology.application().environment;
    let mut variables: Vec<(OsString, OsString)> =
        environment.variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
    if let Some(file) = &environment.file {
        let path = project.folder.join(file);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("{} can't be read; hint: env-file names it", path.display()))?;
        for (number, line) in text.lines().enumerate() {
            match variable(line) {
                Ok(Some((name, value))) => variables.push((name.into(), value.into())),
                Ok(None) => {}
                // The line may have a secret.
                Err(()) => bail!("{}:{}: not NAME=value", path.display(), number + 1),
            }
        }
    }
    variables.push(("DATABASE_URL".into(), database_url.into()));
    Ok(variables)
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
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let value = value.trim();
    let unquoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    if is_name { Ok(Some((name, unquoted.unwrap_or(value)))) } else { Err(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_variables_comments_or_mistakes() {
        assert_eq!(variable("  # comment"), Ok(None));
        assert_eq!(variable("export A=b=c "), Ok(Some(("A", "b=c"))));
        assert_eq!(variable("KEY = \"a b\""), Ok(Some(("KEY", "a b"))));
        assert_eq!(variable("EMPTY="), Ok(Some(("EMPTY", ""))));
        assert_eq!(variable("no variable"), Err(()));
        assert_eq!(variable("a-b=c"), Err(()));
    }
}
