//! PostgreSQL from the distribution's packages, for real: downloaded, unpacked, and a server started from it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tercet_database::installation::{Progress, Search, fetch};

use crate::server::{Server, connect, folder, value};

/// The variable by which apt is told of another package database; see apt.conf(5).
const APT_CONFIG: &str = "APT_CONFIG";

/// Where PostgreSQL is installed apt has nothing to download, so the test runs itself once more, with a package
/// database in which PostgreSQL is missing.
#[test]
fn debian_packages_become_a_server_without_being_installed() {
    let Ok(packages) = std::fs::read_to_string("/var/lib/dpkg/status") else {
        return; // not a Debian: there the packages do not exist
    };
    if std::env::var_os(APT_CONFIG).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, fetched_packages_serve());
        return;
    }
    let scratch = folder();
    let status = scratch.path().join("status");
    let config = scratch.path().join("apt.conf");
    std::fs::write(&status, without_postgresql(&packages)).unwrap();
    std::fs::write(&config, format!("Dir::State::status \"{}\";\n", status.display())).unwrap();
    let again = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "fetch::debian_packages_become_a_server_without_being_installed", "--nocapture"])
        .env(APT_CONFIG, config)
        .output()
        .unwrap();
    assert!(
        again.status.success(),
        "{}{}",
        String::from_utf8_lossy(&again.stdout),
        String::from_utf8_lossy(&again.stderr)
    );
    assert!(String::from_utf8_lossy(&again.stdout).contains("1 passed"));
}

async fn fetched_packages_serve() {
    let scratch = folder();
    let cache = scratch.path().join("cache");
    let path = std::env::var_os("PATH");
    let search = Search::system(path.as_ref(), cache.clone());
    let mut progress = Vec::new();
    let installation = fetch(&search, None, &mut |step: Progress| progress.push(step)).await.unwrap();

    assert!(installation.programs.starts_with(&cache), "{}", installation.programs.display());
    assert!(progress.iter().any(|step| step.total.is_some_and(|total| total > 0)));
    assert_eq!(entries(&cache), [cache.join("debian")]);
    // What was fetched is found again.
    let cached = Search { path: Vec::new(), versioned: Vec::new(), cache };
    assert_eq!(cached.find(Some(installation.version.major)).as_ref(), Some(&installation));

    let server = Server::start_from(installation).await;
    let owner = connect(server.owner()).await;
    assert_eq!(value(&owner, "select 6 * 7").await, "42");
}

/// A package database without PostgreSQL and what needs it.
fn without_postgresql(packages: &str) -> String {
    let needs_it = |package: &&str| {
        package.lines().any(|line| {
            line.starts_with("Package: postgresql")
                || (line.starts_with("Depends:") && line.contains("postgresql"))
        })
    };
    packages.split_inclusive("\n\n").filter(|package| !needs_it(package)).collect()
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect()
}
