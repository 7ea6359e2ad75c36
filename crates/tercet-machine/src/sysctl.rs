//! Kernel parameters: set now, and again at every boot by a file of `sysctl.d`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::command::{CommandError, output, run};
use crate::file::{Contents, File, Owner};

/// A kernel parameter and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sysctl {
    /// For example `net.core.somaxconn`.
    pub key: String,
    /// The value as the kernel prints it.
    pub value: String,
}

/// The file that sets them at boot (sysctl.d(5)).
pub(crate) fn boot_file(sysctls: &[Sysctl]) -> File {
    let text: String = sysctls.iter().map(|sysctl| format!("{} = {}\n", sysctl.key, sysctl.value)).collect();
    File {
        path: PathBuf::from("/etc/sysctl.d/60-tercet.conf"),
        contents: Contents::Text(text),
        owner: Owner::root(),
        mode: 0o644,
    }
}

/// Present values by key; a parameter this kernel does not have is not there.
pub(crate) fn probe(sysctls: &[Sysctl]) -> Result<BTreeMap<String, String>, CommandError> {
    let mut values = BTreeMap::new();
    for Sysctl { key, .. } in sysctls {
        let output = output("sysctl", &["-n", "--", key], "")?;
        if output.status.success() {
            let value =
                String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
            values.insert(key.clone(), value);
        }
    }
    Ok(values)
}

/// Sets the parameter of the running kernel.
pub(crate) fn set(sysctl: &Sysctl) -> Result<(), CommandError> {
    run("sysctl", &["-q", "-w", &format!("{}={}", sysctl.key, sysctl.value)]).map(drop)
}
