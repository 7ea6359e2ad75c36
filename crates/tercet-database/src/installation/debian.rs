//! The distribution's own packages, on Debian and Ubuntu: downloaded and verified by `apt-get`, unpacked by
//! `dpkg-deb` into the cache. Nothing is installed, so neither root nor the package database is needed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::error::FetchError;
use super::progress::Progress;
use super::{Installation, newest_first};

/// The interval of progress reports.
const TICK: Duration = Duration::from_millis(100);

/// Installations of earlier fetches, newest first.
pub(super) fn unpacked(cache: &Path) -> impl Iterator<Item = Installation> + use<> {
    let root = cache.join("debian");
    let libraries = libraries(&root);
    newest_first(&root.join("usr/lib/postgresql"))
        .into_iter()
        .filter_map(move |programs| Installation::at(&programs, &libraries))
}

/// The folders of an unpacked tree that hold shared libraries: `usr/lib/x86_64-linux-gnu` and the like.
fn libraries(root: &Path) -> Vec<PathBuf> {
    ["usr/lib", "lib"]
        .iter()
        .flat_map(|folder| fs::read_dir(root.join(folder)).into_iter().flatten().flatten())
        .filter(|entry| entry.file_name().to_string_lossy().contains("-linux-gnu"))
        .map(|entry| entry.path())
        .collect()
}

/// Downloads and unpacks the server and the libraries this machine lacks.
pub(super) async fn fetch(
    cache: &Path,
    major: Option<u32>,
    report: &mut dyn FnMut(Progress),
) -> Result<(), FetchError> {
    let package = major.map_or_else(|| "postgresql".to_owned(), |major| format!("postgresql-{major}"));
    // Removed with its content when dropped.
    let scratch = tempfile::tempdir_in(cache).map_err(FetchError::file(cache))?;
    let downloads = scratch.path().join("packages");
    create(&downloads)?;
    report(Progress { doing: "asking apt for PostgreSQL", bytes: 0, total: None });
    let lists = Lists::System;
    match download(&lists, &package, &downloads, report).await {
        // A fresh container has no lists, and old ones name packages the mirror no longer has.
        Err(FetchError::Tool { .. }) => {
            let lists = Lists::Private(scratch.path().join("apt"));
            lists.update(report).await?;
            download(&lists, &package, &downloads, report).await?;
        }
        done => done?,
    }
    report(Progress { doing: "unpacking PostgreSQL", bytes: 0, total: None });
    let tree = scratch.path().join("tree");
    create(&tree)?;
    for package in fs::read_dir(&downloads).map_err(FetchError::file(&downloads))?.flatten() {
        run(Command::new("dpkg-deb").arg("--extract").arg(package.path()).arg(&tree)).await?;
    }
    let place = cache.join("debian");
    if place.exists() {
        fs::remove_dir_all(&place).map_err(FetchError::file(&place))?;
    }
    fs::rename(&tree, &place).map_err(FetchError::file(&place))
}

/// The package lists `apt-get` uses.
enum Lists {
    /// The machine's.
    System,
    /// A private copy below this folder, which can be updated without root.
    Private(PathBuf),
}

impl Lists {
    fn apt_get(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.args(["--quiet", "--quiet"]).env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive");
        if let Self::Private(folder) = self {
            for (option, name) in [("Dir::State::lists", "lists"), ("Dir::Cache", "cache")] {
                let mut setting = std::ffi::OsString::from(format!("{option}="));
                setting.push(folder.join(name));
                command.arg("-o").arg(setting);
            }
        }
        command
    }

    async fn update(&self, report: &mut dyn FnMut(Progress)) -> Result<(), FetchError> {
        report(Progress { doing: "reading the package lists", bytes: 0, total: None });
        if let Self::Private(folder) = self {
            create(&folder.join("lists/partial"))?;
            create(&folder.join("cache/archives/partial"))?;
        }
        run(self.apt_get().arg("update")).await.map(drop)
    }
}

/// Downloads `package` and its missing dependencies into `folder`.
async fn download(
    lists: &Lists,
    package: &str,
    folder: &Path,
    report: &mut dyn FnMut(Progress),
) -> Result<(), FetchError> {
    let plan =
        run(lists.apt_get().args(["--simulate", "--no-install-recommends", "install", package])).await?;
    let packages = wanted(&plan);
    if packages.is_empty() {
        return Err(FetchError::Tool {
            command: format!("apt-get --simulate install {package}"),
            output: "the package is installed, but its programs are missing".to_owned(),
        });
    }
    let addresses = run(lists.apt_get().args(["--print-uris", "download"]).args(&packages)).await?;
    let total = total_size(&addresses);
    let mut downloading = lists.apt_get();
    downloading.arg("download").args(&packages).current_dir(folder);
    let mut downloading = std::pin::pin!(run(&mut downloading));
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            done = &mut downloading => return done.map(drop),
            _ = tick.tick() => {
                let bytes = fs::read_dir(folder)
                    .into_iter()
                    .flatten()
                    .flatten()
                    .filter_map(|entry| Some(entry.metadata().ok()?.len()))
                    .sum();
                report(Progress { doing: "downloading PostgreSQL", bytes, total });
            }
        }
    }
}

/// The packages of a simulated installation that a private server needs: the server itself and new shared
/// libraries. Left out: what is only an upgrade of something installed, the cluster scripts and their Perl,
/// and the compiler behind `jit`, which the generated configuration turns off.
fn wanted(plan: &str) -> BTreeSet<String> {
    plan.lines()
        .filter_map(|line| line.strip_prefix("Inst "))
        .filter_map(|line| line.split_once(' '))
        .filter(|(_, rest)| !rest.starts_with('['))
        .map(|(name, _)| name)
        .filter(|name| {
            let server = name
                .strip_prefix("postgresql-")
                .is_some_and(|major| !major.is_empty() && major.bytes().all(|byte| byte.is_ascii_digit()));
            let skipped = ["libllvm", "libz3", "libperl", "libgdbm"];
            let library = name.starts_with("lib")
                && !name.ends_with("-perl")
                && !skipped.iter().any(|skipped| name.starts_with(skipped));
            server || library
        })
        .map(str::to_owned)
        .collect()
}

/// The bytes `apt-get --print-uris` announces: `'http://…' name.deb 205248 SHA256:…` on each line.
fn total_size(addresses: &str) -> Option<u64> {
    addresses.lines().map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok()).sum()
}

fn create(folder: &Path) -> Result<(), FetchError> {
    fs::create_dir_all(folder).map_err(FetchError::file(folder))
}

/// Runs a tool and returns its standard output.
async fn run(command: &mut Command) -> Result<String, FetchError> {
    let line = || {
        let command = command.as_std();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    };
    let line = line();
    let failed = |output: String| FetchError::Tool { command: line.clone(), output };
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let end: Vec<_> = said.lines().rev().take(3).collect();
    Err(failed(end.into_iter().rev().collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_installation_only_the_server_and_new_libraries_are_wanted() {
        let plan = "\
Inst libc6 [2.36-9] (2.36-10 Debian:12.9/stable [amd64])
Inst perl-base [5.36.0-7] (5.36.0-8 Debian:12.9/stable [amd64])
Inst libjson-perl (4.10000-1 Debian:12.9/stable [all])
Inst postgresql-client-common (248 Debian:12.9/stable [all])
Inst libpq5 (15.14-0 Debian:12.9/stable [amd64])
Inst libllvm14 (1:14.0.6-12 Debian:12.9/stable [amd64])
Inst libxslt1.1 (1.1.35-1 Debian:12.9/stable [amd64])
Inst postgresql-client-15 (15.14-0 Debian:12.9/stable [amd64])
Inst postgresql-15 (15.14-0 Debian:12.9/stable [amd64])
Inst postgresql (15+248 Debian:12.9/stable [all])
Conf libpq5 (15.14-0 Debian:12.9/stable [amd64])
";
        let wanted: Vec<_> = wanted(plan).into_iter().collect();
        assert_eq!(wanted, ["libpq5", "libxslt1.1", "postgresql-15"]);
    }

    #[test]
    fn the_download_is_as_large_as_apt_announces() {
        assert_eq!(total_size("'http://a' a.deb 12 SHA256:0\n'http://b' b.deb 30 SHA256:1\n"), Some(42));
        assert_eq!(total_size("'http://a' a.deb"), None);
    }
}
