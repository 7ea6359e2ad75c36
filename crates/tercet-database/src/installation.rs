//! Finds PostgreSQL's server programs on this machine, and selects one of several versions.
//!
//! The search runs only `pg_config` and `postgres --version`. [`fetch()`] downloads missing programs into a cache
//! and changes nothing else on the system.

mod debian;
mod error;
mod fetch;
mod prebuilt;
mod progress;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub use error::FetchError;
pub use fetch::fetch;
pub use progress::Progress;

/// The oldest major version the data API works with.
pub const OLDEST: u32 = 13;

/// A version of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Data directories of different majors are incompatible.
    pub major: u32,
    /// Grows with each bug-fix release.
    pub minor: u32,
}

impl Version {
    /// Reads what `postgres --version` prints: `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
    fn parse(line: &str) -> Option<Self> {
        let number = line.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
        let (major, rest) =
            number.split_at(number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len()));
        // Development versions are spelled 18devel, 18beta1, 18rc1.
        let minor = rest.strip_prefix('.').map_or(Some(0), |minor| minor.parse().ok())?;
        Some(Self { major: major.parse().ok()?, minor })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The server programs of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The folder with `postgres` and `initdb`.
    pub programs: PathBuf,
    /// Folders of its shared libraries that the dynamic linker does not search by default.
    pub libraries: Vec<PathBuf>,
    /// Its version.
    pub version: Version,
}

impl Installation {
    /// The installation in a folder, if `initdb` is there and `postgres` runs.
    pub fn at(programs: &Path, libraries: &[PathBuf]) -> Option<Self> {
        if !programs.join("initdb").is_file() {
            return None;
        }
        let mut command = Command::new(programs.join("postgres"));
        command.arg("--version");
        command.envs(library_path(libraries));
        let output = command.output().ok().filter(|output| output.status.success())?;
        let version = Version::parse(&String::from_utf8_lossy(&output.stdout))?;
        (version.major >= OLDEST).then(|| Self {
            programs: programs.to_owned(),
            libraries: libraries.to_owned(),
            version,
        })
    }

    /// The path of one of its programs, such as `pg_basebackup`: beside `postgres`, or, where that is a symbolic link, in
    /// the folder that it points to.
    pub fn program(&self, name: &str) -> PathBuf {
        let beside = self.programs.join(name);
        if beside.exists() {
            return beside;
        }
        let linked = self.programs.join("postgres").canonicalize().ok();
        linked
            .and_then(|postgres| Some(postgres.parent()?.join(name)))
            .filter(|path| path.exists())
            .unwrap_or(beside)
    }

    /// The whole environment of its programs; nothing is inherited. Shell commands that the server runs, such as
    /// `restore_command`, find the system's programs.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut path = self.programs.clone().into_os_string();
        path.push(":/usr/bin:/bin");
        let mut environment = vec![("PATH".into(), path), ("LC_ALL".into(), "C".into())];
        environment.extend(library_path(&self.libraries));
        environment
    }
}

/// The variable that makes the dynamic linker search `libraries`, if there are any.
fn library_path(libraries: &[PathBuf]) -> Option<(OsString, OsString)> {
    let folders = std::env::join_paths(libraries).ok().filter(|folders| !folders.is_empty())?;
    Some(("LD_LIBRARY_PATH".into(), folders))
}

/// Where to search, in this order: the folders of PATH, what `pg_config` names, Debian's and Homebrew's
/// folders (newest first), and what [`fetch()`] has downloaded.
#[derive(Clone, Debug)]
pub struct Search {
    /// The folders of PATH.
    pub path: Vec<PathBuf>,
    /// Folders with one folder per version, each with its programs in `bin`.
    pub versioned: Vec<PathBuf>,
    /// Where fetched installations are kept; see [`fetch()`].
    pub cache: PathBuf,
}

impl Search {
    /// The usual folders of a system, given the value of PATH and the cache folder.
    pub fn system(path: Option<&OsString>, cache: PathBuf) -> Self {
        Self {
            path: path.map(std::env::split_paths).into_iter().flatten().collect(),
            versioned: ["/usr/lib/postgresql", "/usr/local/pgsql", "/opt/homebrew/opt", "/usr/local/opt"]
                .map(PathBuf::from)
                .into(),
            cache,
        }
    }

    /// The first installation, or the first of `major` when a data directory asks for it.
    pub fn find(&self, major: Option<u32>) -> Option<Installation> {
        self.all().find(|installation| major.is_none_or(|major| installation.version.major == major))
    }

    /// Every installation, preferred ones first; the search is lazy.
    pub fn all(&self) -> impl Iterator<Item = Installation> {
        let named = self.path.iter().filter_map(|folder| pg_config(folder));
        let path = self.path.iter().cloned().chain(named);
        let versioned = self.versioned.iter().flat_map(|folder| newest_first(folder));
        let installed = path.chain(versioned).filter_map(|programs| Installation::at(&programs, &[]));
        installed.chain(debian::unpacked(&self.cache)).chain(prebuilt::unpacked(&self.cache))
    }
}

/// The programs' folder according to `pg_config`, if `folder` contains it.
fn pg_config(folder: &Path) -> Option<PathBuf> {
    let program = folder.join("pg_config");
    if !program.is_file() {
        return None;
    }
    let output =
        Command::new(program).arg("--bindir").output().ok().filter(|output| output.status.success())?;
    let named = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!named.is_empty()).then(|| PathBuf::from(named))
}

/// The `bin` folders below `folder`, highest version first: `17/bin`, `postgresql@15/bin`, `15.18/bin`.
fn newest_first(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<(Vec<u32>, PathBuf)> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number =
                name.strip_prefix("postgresql@").or(name.strip_prefix("postgresql")).unwrap_or(&name);
            let version = number.split('.').map_while(|part| part.parse().ok()).collect::<Vec<u32>>();
            // Homebrew's plain `postgresql` is a link to its current version.
            (!version.is_empty() || name == "postgresql").then(|| (version, entry.path().join("bin")))
        })
        .collect();
    found.sort_by(|one, other| other.cmp(one));
    found.into_iter().map(|(_, programs)| programs).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn check_version(line: &str, expected: Option<(u32, u32)>) {
        assert_eq!(Version::parse(line), expected.map(|(major, minor)| Version { major, minor }), "{line}");
    }

    #[test]
    fn versions_are_read_from_what_postgres_prints() {
        check_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", Some((15, 18)));
        check_version("postgres (PostgreSQL) 19devel\n", Some((19, 0)));
        check_version("postgres (EnterpriseDB) 9\n", None);
    }

    /// A folder that looks like an installation of `version`, for the order of the search.
    fn install(programs: &Path, version: &str) {
        std::fs::create_dir_all(programs).unwrap();
        std::fs::write(programs.join("initdb"), "").unwrap();
        script(&programs.join("postgres"), &format!("echo 'postgres (PostgreSQL) {version}'"));
    }

    fn script(path: &Path, text: &str) {
        std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn path_comes_before_pg_config_before_the_newest_of_the_system_before_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        install(&place("path"), "16.1");
        install(&place("configured"), "14.2");
        std::fs::create_dir(place("other")).unwrap();
        script(&place("other/pg_config"), &format!("echo {}", place("configured").display()));
        for version in ["9.6", "15", "17", "postgresql@18"] {
            let number = version.trim_start_matches("postgresql@");
            install(&place("system").join(version).join("bin"), &format!("{number}.3"));
        }
        install(&place("cache/prebuilt/15.9.0/bin"), "15.9");
        install(&place("cache/debian/usr/lib/postgresql/15/bin"), "15.8");
        let search = Search {
            path: vec![place("missing"), place("path"), place("other")],
            versioned: vec![place("system")],
            cache: place("cache"),
        };
        let found: Vec<_> = search.all().map(|installation| installation.version.to_string()).collect();
        assert_eq!(found, ["16.1", "14.2", "18.3", "17.3", "15.3", "15.8", "15.9"]);
        assert_eq!(search.find(Some(15)).unwrap().programs, place("system/15/bin"));
        assert_eq!(search.find(Some(13)), None);
    }
}
