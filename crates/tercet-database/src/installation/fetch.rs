//! Bringing PostgreSQL's server programs into a cache folder, without root and without touching the system.
//!
//! On Debian and Ubuntu they are the distribution's own signed packages, elsewhere prebuilt archives.

use std::io;
use std::path::{Path, PathBuf};

use super::{Installation, Search, debian, prebuilt};

/// How far a fetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done, as a person would say it.
    pub doing: &'static str,
    /// Bytes that have arrived.
    pub bytes: u64,
    /// Bytes there will be, when that is known.
    pub total: Option<u64>,
}

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
        /// The end of what it printed.
        output: String,
    },
    /// The download site could not be reached, or its archive is damaged.
    #[error("PostgreSQL could not be downloaded: {0}; hint: install it with your package manager")]
    Archive(#[from] postgresql_embedded::Error),
    /// What was fetched does not run here.
    #[error("the PostgreSQL fetched into {} does not run here; hint: install it with your package manager", .0.display())]
    Unusable(PathBuf),
}

impl FetchError {
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::File { path: path.to_owned(), source }
    }
}

/// Fetches the distribution's PostgreSQL, or the given major version, into the cache of `search`.
/// Dropping the future stops it and leaves nothing half done under a name the search would find.
///
/// # Errors
/// See [`FetchError`].
pub async fn fetch(
    search: &Search,
    major: Option<u32>,
    report: &mut (dyn FnMut(Progress) + Send),
) -> Result<Installation, FetchError> {
    std::fs::create_dir_all(&search.cache).map_err(FetchError::file(&search.cache))?;
    let has = |program: &str| search.path.iter().any(|folder| folder.join(program).is_file());
    if has("apt-get") && has("dpkg-deb") {
        debian::fetch(&search.cache, major, report).await?;
    } else {
        prebuilt::fetch(&search.cache, major, report).await?;
    }
    let cached = Search { path: Vec::new(), versioned: Vec::new(), cache: search.cache.clone() };
    cached.find(major).ok_or_else(|| FetchError::Unusable(search.cache.clone()))
}
