//! The certificates of a configuration, read from their files: those of `domains`, then those of listeners.

use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::folder::Folder;
use super::{http, schedule};
use crate::config::Config;
use crate::x509::Leaf;

/// A certificate, or a domain that has none yet. Times are in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Listed {
    /// The names it is for.
    pub names: Vec<String>,
    /// The name of its issuer; `None` if there is no certificate.
    pub issuer: Option<String>,
    /// The end of its validity.
    pub expires: Option<i64>,
    /// When it is renewed, or the next attempt to obtain it; `None` if tercet does not renew it.
    pub next_renewal: Option<i64>,
    /// Why the last attempt failed, if it did.
    pub last_error: Option<String>,
    /// How many attempts in a row have failed.
    pub failures: u32,
    /// Its file, or why it cannot be used.
    pub file: Option<String>,
}

/// Lists the certificates of a configuration. A process may be renewing them meanwhile.
pub fn list(config: &Config) -> Vec<Listed> {
    let folder = Folder::of_other(&config.acme.folder);
    let now = http::seconds(SystemTime::now());
    let obtained = config.domains.iter().map(|domain| {
        let record = folder.record(domain);
        let leaf = folder.certificate(domain).map(|(_, leaf)| leaf);
        let directory = config.acme.directory.url();
        let failure = record.failure.as_ref().filter(|failure| failure.directory == directory);
        Listed {
            names: leaf.as_ref().map_or_else(|| vec![domain.clone()], |leaf| leaf.names.clone()),
            issuer: leaf.as_ref().map(|leaf| leaf.issuer.clone()),
            expires: leaf.as_ref().map(|leaf| leaf.not_after),
            next_renewal: Some(schedule::next_attempt(&record, leaf.as_ref(), directory, now)),
            last_error: failure.map(|failure| failure.reason.clone()),
            failures: failure.map_or(0, |failure| failure.count),
            file: None,
        }
    });
    let mut files: Vec<&Path> = Vec::new();
    for pair in config.listen.iter().flat_map(|listen| &listen.certificates) {
        if !files.contains(&pair.certificate.as_path()) {
            files.push(&pair.certificate);
        }
    }
    obtained.chain(files.into_iter().map(of_file)).collect()
}

fn of_file(file: &Path) -> Listed {
    let leaf = std::fs::read(file).map_err(|error| error.to_string()).and_then(|pem| Leaf::of_pem(&pem));
    let file = Some(file.display().to_string());
    match leaf {
        Ok(leaf) => Listed {
            names: leaf.names,
            issuer: Some(leaf.issuer),
            expires: Some(leaf.not_after),
            file,
            ..Listed::default()
        },
        Err(problem) => Listed { last_error: Some(problem), file, ..Listed::default() },
    }
}
