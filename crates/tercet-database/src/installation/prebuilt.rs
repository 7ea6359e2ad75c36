//! Prebuilt archives by the `postgresql_embedded` crate, for systems without Debian packages.

use std::path::Path;

use postgresql_embedded::{PostgreSQL, Settings, VersionReq};

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
    // The crate would also create a cluster; a configuration file in the data directory makes it skip that.
    let scratch = tempfile::tempdir_in(cache).map_err(FetchError::file(cache))?;
    let configuration = scratch.path().join("postgresql.conf");
    std::fs::write(&configuration, "").map_err(FetchError::file(&configuration))?;
    let settings = Settings {
        releases_url: RELEASES.to_owned(),
        version: VersionReq::parse(&format!("^{}", major.unwrap_or(MAJOR)))
            .expect("a caret and a number are a version requirement"),
        installation_dir: cache.join("prebuilt"),
        password_file: scratch.path().join("password"),
        data_dir: scratch.path().to_owned(),
        host: "127.0.0.1".to_owned(),
        port: 0,
        username: "postgres".to_owned(),
        password: String::new(),
        temporary: false,
        timeout: None,
        configuration: std::collections::HashMap::new(),
        trust_installation_dir: false,
        socket_dir: None,
    };
    PostgreSQL::new(settings).setup().await?;
    Ok(())
}
