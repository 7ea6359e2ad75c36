//! Programs that a command needs on this machine, and the line that installs the missing ones.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

/// A program that a command needs and does not install itself.
pub(crate) struct Prerequisite {
    what: &'static str,
    /// The Debian and Ubuntu package it is in.
    package: &'static str,
    present: fn() -> bool,
}

const CHROMIUM: Prerequisite =
    Prerequisite { what: "Chromium", package: "chromium", present: || runs("chromium", &["--version"]) };
const CXX: Prerequisite =
    Prerequisite { what: "a C++ compiler", package: "g++", present: || runs("c++", &["--version"]) };
const CURL: Prerequisite =
    Prerequisite { what: "curl", package: "curl", present: || runs("curl", &["--version"]) };
const NODE: Prerequisite =
    Prerequisite { what: "node", package: "nodejs", present: || runs("node", &["--version"]) };
const NPM: Prerequisite =
    Prerequisite { what: "npm", package: "npm", present: || runs("npm", &["--version"]) };
const PEBBLE: Prerequisite =
    Prerequisite { what: "pebble", package: "pebble", present: || runs("pebble", &["-help"]) };
const PGBACKREST: Prerequisite =
    Prerequisite { what: "pgBackRest", package: "pgbackrest", present: || runs("pgbackrest", &["version"]) };
const NSS_WRAPPER: Prerequisite =
    Prerequisite { what: "nss_wrapper", package: "libnss-wrapper", present: nss_wrapper };
const FAKETIME: Prerequisite =
    Prerequisite { what: "faketime", package: "faketime", present: || runs("faketime", &["--version"]) };
const POSTGRESQL: Prerequisite =
    Prerequisite { what: "PostgreSQL's server programs", package: "postgresql", present: postgresql };
const PROMTOOL: Prerequisite = Prerequisite {
    what: "Prometheus' promtool",
    package: "prometheus",
    present: || runs("promtool", &["--version"]),
};
const PYTHON: Prerequisite = Prerequisite {
    what: "python3 with venv",
    package: "python3-venv",
    present: || runs("python3", HAS_VENV),
};
/// Arguments with which a Python that can make virtual environments succeeds.
pub(crate) const HAS_VENV: &[&str] = &["-c", "import venv, ensurepip"];

/// For the tests.
pub(crate) const OF_TESTS: &[Prerequisite] =
    &[CHROMIUM, CURL, FAKETIME, NODE, NPM, NSS_WRAPPER, PEBBLE, PGBACKREST, POSTGRESQL, PROMTOOL, PYTHON];
/// For the gate and the fuzz targets.
pub(crate) const OF_TOOLS: &[Prerequisite] = &[CXX, PYTHON];

/// An error that names all that is missing of `needed` at once.
pub(crate) fn check(needed: &[Prerequisite]) -> Result<()> {
    let missing: Vec<_> = needed.iter().filter(|it| !(it.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = |field: fn(&Prerequisite) -> &str, between| {
        missing.iter().map(|it| field(it)).collect::<Vec<_>>().join(between)
    };
    bail!(
        "not on this machine: {}\nhint: sudo apt-get install {}",
        list(|it| it.what, ", "),
        list(|it| it.package, " ")
    )
}

/// Whether the program succeeds with these arguments.
pub(crate) fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether the loader finds it: without it, a program that is to be preloaded prints a message.
fn nss_wrapper() -> bool {
    Command::new("true")
        .env("LD_PRELOAD", "libnss_wrapper.so")
        .output()
        .is_ok_and(|output| output.status.success() && output.stderr.is_empty())
}

/// On the PATH, or where Debian puts it.
fn postgresql() -> bool {
    runs("postgres", &["--version"])
        || Path::new("/usr/lib/postgresql").read_dir().is_ok_and(|mut versions| {
            versions.any(|version| version.is_ok_and(|it| it.path().join("bin/postgres").exists()))
        })
}
