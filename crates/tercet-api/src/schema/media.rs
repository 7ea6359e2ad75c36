//! Custom media type handlers: domains named by a media type that aggregates or functions return.

use std::sync::Arc;

use super::QualifiedName;

/// What a media type handler can be applied to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MediaTarget {
    /// Rows of a relation, or the result of a function, of that name.
    Named(QualifiedName),
    /// Anything.
    Any,
}

/// How a custom media type is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaHandler {
    /// The aggregate; for a function that returns the domain itself, the domain.
    pub function: QualifiedName,
    /// What it takes.
    pub target: MediaTarget,
    /// The media type to answer with (`application/octet-stream` for a `*/*` domain).
    pub answered: Arc<str>,
    /// Whether it makes bytes, not text.
    pub binary: bool,
}
