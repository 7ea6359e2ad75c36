//! Everything that is wrong with a text, each mistake underlined where it stands.
//!
//! Knows how a mistake is shown, not what makes one.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

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
    /// What is wrong, in one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the person can do about it.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The line it stands on, counted from 1.
    pub fn line(&self) -> usize {
        let before = self.source_text.inner().get(..self.start()).unwrap_or_default();
        before.matches('\n').count() + 1
    }

    fn start(&self) -> usize {
        self.labels.first().map_or(0, |(span, _)| span.start)
    }
}

impl Diagnostic for Mistake {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.hint.as_ref().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source_text)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let labels = self.labels.iter();
        Some(Box::new(labels.map(|(span, label)| LabeledSpan::at(span.clone(), label.clone()))))
    }
}

/// All mistakes of one text, in the order they stand in it.
#[derive(Clone, Debug)]
pub struct Mistakes {
    source_text: Arc<NamedSource<String>>,
    list: Vec<Mistake>,
}

impl Mistakes {
    /// For a text of which the `hidden` bytes must not be shown: secrets.
    pub(crate) fn new(file: &str, text: &str, hidden: &[Range<usize>]) -> Self {
        let mut shown = text.as_bytes().to_vec();
        for span in hidden {
            shown[span.clone()].fill(b'*');
        }
        // A span that starts or ends inside a character leaves bytes that are none; they are secret anyway.
        let shown = String::from_utf8_lossy(&shown).into_owned();
        Self { source_text: Arc::new(NamedSource::new(file, shown)), list: Vec::new() }
    }

    /// Adds a mistake; `label` stands under the offending text.
    pub(crate) fn add(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Added<'_> {
        let length = self.source_text.inner().len();
        // What is missing at the very end is shown at the last character.
        let span = if span.start >= length && length > 0 { length - 1..length } else { span };
        let mistake = Mistake {
            message: message.into(),
            labels: vec![(span, label.into())],
            hint: None,
            source_text: Arc::clone(&self.source_text),
        };
        let at = self.list.partition_point(|other| other.start() <= mistake.start());
        self.list.insert(at, mistake);
        Added(&mut self.list[at])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The mistakes, in the order they stand in the text.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.list.iter()
    }
}

/// A mistake just added, to say more about it.
pub(crate) struct Added<'a>(&'a mut Mistake);

impl Added<'_> {
    /// What the person can do about it.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// The other place it has to do with.
    pub(crate) fn and(self, span: Range<usize>, label: impl Into<String>) -> Self {
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
