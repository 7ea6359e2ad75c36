//! What is wrong with a configuration, where, and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line it is on, from 1; `None` where the whole file is meant.
    pub line: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// Everything that is wrong with one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    file: PathBuf,
    problems: Vec<Problem>,
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { line, message, hint }) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(formatter, "{separator}{}", self.file.display())?;
            if let Some(line) = line {
                write!(formatter, ":{line}")?;
            }
            write!(formatter, ": {message}\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl Problems {
    /// The problems, in the order of their lines.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    pub(super) fn unreadable(file: &Path, error: &std::io::Error) -> Self {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "is the path right? it starts at the current folder",
            std::io::ErrorKind::PermissionDenied => "let the user the balancer runs as read it",
            _ => "give the path of a TOML file",
        };
        let problem =
            Problem { line: None, message: format!("cannot be read: {error}"), hint: hint.to_owned() };
        Self { file: file.to_owned(), problems: vec![problem] }
    }

    pub(super) fn syntax(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let message = error.message().replace('\n', "; ");
        let problem = Problem {
            line: error.span().map(|span| line_of(text, span.start)),
            hint: hint_for(&message),
            message,
        };
        Self { file: file.to_owned(), problems: vec![problem] }
    }
}

/// Problems found in values, by the keys that lead to them.
#[derive(Debug, Default)]
pub(super) struct Found(Vec<(Vec<Step>, String, String)>);

/// A step towards a value: a key of a table or an index of an array.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Key(&'static str),
    Index(usize),
}

impl Found {
    pub(super) fn push(&mut self, at: &[Step], message: impl Into<String>, hint: impl Into<String>) {
        self.0.push((at.to_vec(), message.into(), hint.into()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same with their lines: each where its path leads in `text`, or as far as it does.
    pub(super) fn located(self, file: &Path, text: &str) -> Problems {
        let root = DeTable::parse(text).ok();
        let line = |path: &[Step]| Some(line_of(text, position(root.as_ref()?.get_ref(), path)?));
        let mut problems: Vec<Problem> = self
            .0
            .into_iter()
            .map(|(path, message, hint)| Problem { line: line(&path), message, hint })
            .collect();
        problems.sort_by_key(|problem| problem.line);
        Problems { file: file.to_owned(), problems }
    }
}

fn position(root: &DeTable<'_>, path: &[Step]) -> Option<usize> {
    let mut steps = path.iter();
    let Some(Step::Key(first)) = steps.next() else { return None };
    let (key, mut value) = root.get_key_value(*first)?;
    let mut position = key.span().start;
    for step in steps {
        let next = match (step, value.get_ref()) {
            (Step::Key(key), DeValue::Table(table)) => {
                table.get_key_value(*key).map(|(key, value)| (key.span().start, value))
            }
            (Step::Index(index), DeValue::Array(array)) => {
                array.get(*index).map(|value| (value.span().start, value))
            }
            _ => None,
        };
        let Some((start, found)) = next else { break };
        (position, value) = (start, found);
    }
    Some(position)
}

fn line_of(text: &str, position: usize) -> usize {
    1 + text.bytes().take(position).filter(|byte| *byte == b'\n').count()
}

/// For an unknown key serde lists those it knows: the nearest one is most likely meant.
fn hint_for(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown field") || message.starts_with("unknown variant");
    match (unknown, quoted.next()) {
        (true, Some(given)) => {
            let distance = |known: &&str| edit_distance(given, known);
            match quoted.min_by_key(distance).filter(|nearest| distance(nearest) <= 1 + nearest.len() / 3) {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => "docs/guide/balancer-options.md lists every option".to_owned(),
            }
        }
        _ => "docs/guide/balancer-options.md explains every option".to_owned(),
    }
}

/// Insertions, deletions and replacements that make one word of the other.
fn edit_distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, left) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, right) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}
