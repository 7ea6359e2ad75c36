//! All mistakes of a text, each underlined at its position.
//!
//! Knows how a mistake is shown, not which rules there are.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::{fmt, io};

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};
use thiserror::Error;

/// One mistake.
#[derive(Clone, Debug, Error)]
#[error("{message}")]
pub struct Mistake {
    message: String,
    labels: Vec<(Range<usize>, String)>,
    hint: Option<String>,
    source_text: Arc<NamedSource<String>>,
}

impl Mistake {
    /// The message, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Its line, counted from 1; `None` for a mistake of the whole file, or of the environment.
    pub fn line(&self) -> Option<usize> {
        let before = self.source_text.inner().get(..self.start()?).unwrap_or_default();
        Some(before.matches('\n').count() + 1)
    }

    fn start(&self) -> Option<usize> {
        self.labels.first().map(|(span, _)| span.start)
    }
}

impl Diagnostic for Mistake {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        (!self.labels.is_empty()).then_some(&self.source_text as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let labels = self.labels.iter();
        Some(Box::new(labels.map(|(span, label)| LabeledSpan::at(span.clone(), label.clone()))))
    }
}

/// All mistakes of one text, in the order of their positions.
#[derive(Clone, Debug)]
pub struct Mistakes {
    source_text: Arc<NamedSource<String>>,
    list: Vec<Mistake>,
}

impl Mistakes {
    /// No mistake yet, in the text of `file`; the `hidden` bytes of it are secrets and never shown.
    pub fn new(file: &str, text: &str, hidden: &[Range<usize>]) -> Self {
        let mut shown = text.as_bytes().to_vec();
        for span in hidden {
            shown[span.clone()].fill(b'*');
        }
        // A span that starts or ends inside a character leaves bytes that are none; they are secret anyway.
        let shown = String::from_utf8_lossy(&shown).into_owned();
        Self { source_text: Arc::new(NamedSource::new(file, shown)), list: Vec::new() }
    }

    /// The one mistake of a file that cannot be read.
    pub fn unreadable(file: &Path, error: &io::Error) -> Self {
        let mut mistakes = Self::new(&file.display().to_string(), "", &[]);
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "check the path; a relative one starts at the current folder",
            io::ErrorKind::PermissionDenied => "give the user that runs this command permission to read it",
            _ => "give the path of a TOML file",
        };
        mistakes.add_without_position(format!("cannot be read: {error}")).hint(hint);
        mistakes
    }

    /// Adds a mistake; `label` stands under the offending text.
    pub fn add(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Added<'_> {
        let length = self.source_text.inner().len();
        // What is missing at the very end is shown at the last character.
        let span = if span.start >= length && length > 0 { length - 1..length } else { span };
        self.insert(message.into(), vec![(span, label.into())])
    }

    /// Adds a mistake of the whole text, or one that is not in the text at all.
    pub fn add_without_position(&mut self, message: impl Into<String>) -> Added<'_> {
        self.insert(message.into(), Vec::new())
    }

    fn insert(&mut self, message: String, labels: Vec<(Range<usize>, String)>) -> Added<'_> {
        let source_text = Arc::clone(&self.source_text);
        let mistake = Mistake { message, labels, hint: None, source_text };
        let at = self.list.partition_point(|other| other.start() <= mistake.start());
        self.list.insert(at, mistake);
        Added(&mut self.list[at])
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The mistakes, in the order of their positions.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.list.iter()
    }

    /// All of them as plain lines, for a log: `FILE:LINE: message`, and a line with the hint.
    pub fn lines(&self) -> String {
        let mut lines = Vec::new();
        for mistake in &self.list {
            let line = mistake.line().map_or_else(String::new, |line| format!(":{line}"));
            lines.push(format!("{}{line}: {}", self.source_text.name(), mistake.message));
            lines.extend(mistake.hint.as_ref().map(|hint| format!("hint: {hint}")));
        }
        lines.join("\n")
    }
}

/// A mistake just added, to add more to it.
#[derive(Debug)]
pub struct Added<'a>(&'a mut Mistake);

#[expect(clippy::return_self_not_must_use, reason = "the mistake is added, whether or not more is")]
impl Added<'_> {
    /// Adds what the user can do about it.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds the other position that is part of it.
    pub fn and(self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.0.labels.push((span, label.into()));
        self
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.source_text.name();
        match self.list.len() {
            1 => write!(f, "{name} has a mistake"),
            count => write!(f, "{name} has {count} mistakes"),
        }
    }
}

impl std::error::Error for Mistakes {}

impl Diagnostic for Mistakes {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.list.iter().map(|mistake| mistake as &dyn Diagnostic)))
    }
}
