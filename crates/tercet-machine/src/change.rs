//! One field of a resource that a step changes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A field with its value before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// For example `mode`.
    pub field: String,
    /// The present value; empty when `to` is a unified diff of both.
    pub from: String,
    /// The desired value.
    pub to: String,
}

impl Change {
    pub(crate) fn new(field: &str, from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { field: field.to_owned(), from: from.into(), to: to.into() }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from.is_empty() {
            write!(f, "{}:", self.field)?;
            return self.to.lines().try_for_each(|line| write!(f, "\n  {line}"));
        }
        write!(f, "{}: {} → {}", self.field, self.from, self.to)
    }
}
