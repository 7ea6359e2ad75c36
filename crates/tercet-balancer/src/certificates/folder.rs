//! The folder of the certificates process: certificates with their keys, the account key, and what is known of each
//! domain. Files are replaced atomically and readable by their owner only; a damaged one is as good as a missing one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::tls::{certificate_file, certified};
use crate::x509::Leaf;

/// What is known of a domain besides its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Record {
    /// The ACME directory that its certificate is from.
    pub(super) directory: Option<String>,
    /// When to renew, by the authority's renewal information.
    pub(super) renewal: Option<Renewal>,
    /// The failed attempts since the last certificate.
    pub(super) failure: Option<Failure>,
    /// An order that the authority has accepted.
    pub(super) order: Option<PendingOrder>,
}

/// The renewal information of a certificate (ARI, RFC 9773); times in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Renewal {
    /// When to renew: a time in the suggested window; `None` if the authority has no renewal information.
    pub(super) at: Option<i64>,
    /// When to ask the authority again.
    pub(super) ask_again: i64,
}

/// Failed attempts to obtain a certificate; times in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Failure {
    /// The ACME directory that they were made at.
    pub(super) directory: String,
    /// How many in a row.
    pub(super) count: u32,
    /// The reason of the last one.
    pub(super) reason: String,
    /// When the last one ended.
    pub(super) at: i64,
    /// When the next one may begin.
    pub(super) retry_at: i64,
    /// Whether the authority has tried to validate an HTTP-01 challenge, and failed, since it last tried another.
    pub(super) http_failed: bool,
}

/// An order that the authority has accepted: it is continued after a restart, since orders are rate-limited.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct PendingOrder {
    pub(super) url: String,
    pub(super) directory: String,
    /// The private key of the certificate, in PEM.
    pub(super) key: String,
    /// How many attempts have continued it.
    #[serde(default)]
    pub(super) continued: u32,
}

/// Why a certificate is not in the folder.
#[derive(Debug)]
pub(super) enum Unset {
    /// It cannot be used, for this reason.
    Unusable(String),
    /// Its file cannot be written.
    Unwritable(io::Error),
}

impl std::fmt::Debug for PendingOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingOrder").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Locked while it is open, against a second process.
    _lock: Option<File>,
}

impl Folder {
    /// Creates the folder if it is missing, and locks it.
    ///
    /// # Errors
    /// It cannot be written, or another process uses it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(named)?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(named)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            io::Error::other(format!("{}: another process uses it: {error}", path.display()))
        })?;
        Ok(Self { path: path.to_owned(), _lock: Some(lock) })
    }

    /// The folder of a process that may be running, to read it.
    pub(super) fn of_other(path: &Path) -> Self {
        Self { path: path.to_owned(), _lock: None }
    }

    /// What is known of a domain.
    pub(super) fn record(&self, domain: &str) -> Record {
        let record: Record = self.read(&format!("{domain}.json")).unwrap_or_default();
        // Without its URL, an order was not made before the process ended.
        let order = record.order.filter(|order| !order.url.is_empty());
        Record { order, ..record }
    }

    /// Replaces what is known of a domain.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn set_record(&self, domain: &str, record: &Record) -> io::Result<()> {
        self.write_json(&format!("{domain}.json"), record)
    }

    /// The certificate of a domain, if it and its key are usable.
    pub(super) fn certificate(&self, domain: &str) -> Option<(Vec<u8>, Leaf)> {
        let file = certificate_file(&self.path, domain);
        let pem = fs::read(&file).ok()?;
        let leaf = check(&file, &pem, domain).ok()?;
        Some((pem, leaf))
    }

    /// Replaces the certificate of a domain.
    ///
    /// # Errors
    /// It is not one for the domain, or not for this key; or the file cannot be written.
    pub(super) fn set_certificate(&self, domain: &str, key: &str, chain: &str) -> Result<Leaf, Unset> {
        let file = certificate_file(&self.path, domain);
        let pem = format!("{}\n{}\n", chain.trim(), key.trim());
        let leaf = check(&file, pem.as_bytes(), domain).map_err(Unset::Unusable)?;
        self.write(&format!("{domain}.pem"), pem.as_bytes()).map_err(Unset::Unwritable)?;
        Ok(leaf)
    }

    /// The account at the authority.
    pub(super) fn account<T: DeserializeOwned>(&self) -> Option<T> {
        self.read(ACCOUNT)
    }

    /// Replaces the account.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn set_account(&self, account: &impl Serialize) -> io::Result<()> {
        self.write_json(ACCOUNT, account)
    }

    /// Forgets the account.
    pub(super) fn remove_account(&self) {
        // If it is still there, the authority refuses it again.
        let _ = fs::remove_file(self.path.join(ACCOUNT));
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.path.join(name)).ok()?).ok()
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.write(name, &serde_json::to_vec_pretty(value)?)
    }

    /// Replaces a file: after a crash it has either content.
    fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let (target, new) = (self.path.join(name), self.path.join(format!(".{name}.new")));
        let replace = || {
            let mut file = File::options().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&new, &target)?;
            File::open(&self.path)?.sync_all()
        };
        replace().map_err(|error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", target.display()))
        })
    }
}

const ACCOUNT: &str = "account.json";

/// The certificate in `pem`, which also has its key.
fn check(file: &Path, pem: &[u8], domain: &str) -> Result<Leaf, String> {
    certified(file, pem, file, pem).map_err(|error| error.problem)?;
    let leaf = Leaf::of_pem(pem)?;
    if !leaf.names.iter().any(|name| name == domain) {
        return Err(format!("the certificate is not for {domain} but for {}", leaf.names.join(", ")));
    }
    Ok(leaf)
}
