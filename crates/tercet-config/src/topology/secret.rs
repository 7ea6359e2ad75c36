//! A value that no log, error or argument list may show.

use std::fmt;
use std::path::PathBuf;

/// A secret, or the file that holds it.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Written out in `tercet.toml`.
    Inline(String),
    /// In a file, named relative to the folder of `tercet.toml`.
    File(PathBuf),
}

impl Secret {
    /// Reads `"@path"` as a file and anything else as the secret itself.
    pub(crate) fn parse(text: &str) -> Self {
        match text.strip_prefix('@') {
            Some(path) => Self::File(path.into()),
            None => Self::Inline(text.to_owned()),
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
