//! A secret value, which no log, error or argument list may contain.

use std::fmt;
use std::path::{Path, PathBuf};

/// A secret, or the name of its file.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The secret, written in `tercet.toml`.
    Inline(String),
    /// The secret's file, relative to the folder of `tercet.toml`.
    File(PathBuf),
}

impl Secret {
    /// Parses `"@path"` as a file and any other text as the secret.
    pub(crate) fn parse(text: &str) -> Self {
        match text.strip_prefix('@') {
            Some(path) => Self::File(path.into()),
            None => Self::Inline(text.to_owned()),
        }
    }

    /// Its file, if it is in one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match self {
            Self::Inline(_) => None,
            Self::File(path) => Some(path),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Inline(…)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}
