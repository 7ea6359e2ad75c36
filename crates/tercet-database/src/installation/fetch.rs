//! Downloads PostgreSQL's server programs into a cache folder, without root and without changing the system.
//!
//! On Debian and Ubuntu they are the distribution's own signed packages, elsewhere prebuilt archives.

use super::error::FetchError;
use super::progress::Progress;
use super::{Installation, Search, debian, prebuilt};

/// Fetches the distribution's PostgreSQL, or the given major version, into the cache of `search`.
/// Dropping the future cancels it; the search never finds a partial download.
///
/// # Errors
/// See [`FetchError`].
pub async fn fetch(
    search: &Search,
    major: Option<u32>,
    report: &mut dyn FnMut(Progress),
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
