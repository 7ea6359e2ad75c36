//! What has to be on this machine before the tests can run, and the one line that brings what is missing.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

struct Prerequisite {
    what: &'static str,
    /// The Debian and Ubuntu package it is in.
    package: &'static str,
    present: fn() -> bool,
}

const PREREQUISITES: &[Prerequisite] = &[
    Prerequisite { what: "a C compiler", package: "gcc", present: || runs("cc", &["--version"]) },
    Prerequisite { what: "curl", package: "curl", present: || runs("curl", &["--version"]) },
    Prerequisite { what: "node", package: "nodejs", present: || runs("node", &["--version"]) },
    Prerequisite { what: "npm", package: "npm", present: || runs("npm", &["--version"]) },
    Prerequisite {
        what: "python3 with venv",
        package: "python3-venv",
        present: || runs("python3", &["-c", "import venv, ensurepip"]),
    },
    Prerequisite { what: "PostgreSQL's server programs", package: "postgresql", present: postgresql },
];

/// An error that names everything missing at once.
pub(crate) fn check() -> Result<()> {
    let missing: Vec<_> = PREREQUISITES.iter().filter(|it| !(it.present)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = |field: fn(&Prerequisite) -> &str, between| {
        missing.iter().map(|it| field(it)).collect::<Vec<_>>().join(between)
    };
    bail!(
        "the tests need {}\nhint: sudo apt-get install {}",
        list(|it| it.what, ", "),
        list(|it| it.package, " ")
    )
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// On the PATH, or where Debian puts it.
fn postgresql() -> bool {
    runs("postgres", &["--version"])
        || Path::new("/usr/lib/postgresql").read_dir().is_ok_and(|mut versions| {
            versions.any(|version| version.is_ok_and(|it| it.path().join("bin/postgres").exists()))
        })
}
