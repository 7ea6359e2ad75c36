//! Debian packages.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::command::{CommandError, output, run};

/// A package by its Debian name; which version is the distribution's business.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Package(pub String);

/// Installed versions by name; a package that is not installed is not there.
pub(crate) fn probe(packages: &[Package]) -> Result<BTreeMap<String, String>, CommandError> {
    if packages.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut arguments = vec!["--show", "--showformat=${Package}\\t${db:Status-Status}\\t${Version}\\n", "--"];
    arguments.extend(packages.iter().map(|package| package.0.as_str()));
    // dpkg-query exits 1 when one of the packages is unknown and still lists the others.
    let output = output("dpkg-query", &arguments, "")?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let (name, status, version) = (fields.next()?, fields.next()?, fields.next()?);
            (status == "installed").then(|| (name.to_owned(), version.to_owned()))
        })
        .collect())
}

/// Installs in one transaction of apt, without recommended packages, keeping changed configuration files.
/// Waits up to a minute for apt's lock. A dpkg that was interrupted is put right first.
pub(crate) fn install(names: &[String]) -> Result<(), CommandError> {
    run("dpkg", &["--configure", "-a"])?;
    run("apt-get", &["-q", "-o", "DPkg::Lock::Timeout=60", "update"])?;
    let mut arguments = vec![
        "-q",
        "-y",
        "-o",
        "DPkg::Lock::Timeout=60",
        "-o",
        "Dpkg::Options::=--force-confold",
        "--no-install-recommends",
        "install",
        "--",
    ];
    arguments.extend(names.iter().map(String::as_str));
    run("apt-get", &arguments).map(drop)
}
