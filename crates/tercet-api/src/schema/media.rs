//! Custom media type handlers: aggregates or functions that return a domain named like a media type.

use std::sync::Arc;

use super::QualifiedName;

/// The target of a media type handler.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MediaTarget {
    /// The relation or function with this name.
    Named(QualifiedName),
    /// Any relation.
    Any,
}

/// A custom media type handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaHandler {
    /// The aggregate; for a function that returns the domain, the domain.
    pub function: QualifiedName,
    /// The target.
    pub target: MediaTarget,
    /// The media type of the response (`application/octet-stream` for a `*/*` domain).
    pub answered: Arc<str>,
    /// Whether it returns bytea instead of text.
    pub binary: bool,
}
