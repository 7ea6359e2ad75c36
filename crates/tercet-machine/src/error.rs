//! Why a machine cannot be read or changed.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::command::CommandError;

/// A probe or a step failed.
#[derive(Debug, Error)]
pub enum Error {
    /// A program of the system failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file or directory could not be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file or directory could not be changed.
    #[error("cannot change {path}: {source}", path = path.display())]
    Change {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The machine changed after the step was planned.
    #[error("{0}\nhint: apply again")]
    Outdated(&'static str),
}

impl Error {
    /// Makes the error of a change to `path`.
    pub(crate) fn change(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Change { path: path.to_owned(), source }
    }
}
