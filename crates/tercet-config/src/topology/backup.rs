//! Where and when the database is backed up.

use super::Secret;

/// The schedule of the backups and the place where they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// The calendar expression of full backups (systemd.time(7)).
    pub full: String,
    /// The calendar expression of incremental backups.
    pub incremental: String,
    /// The calendar expression of checks; `None` for no checks.
    pub check: Option<String>,
    /// How many days back the database can be restored to.
    pub keep_days: u32,
    /// The place where backups are kept.
    pub repository: Repository,
}

/// The place where backups are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repository {
    /// The disk of the machine with the backup tier.
    Machine,
    /// An object store with Amazon's S3 protocol.
    S3(S3),
}

/// An object store with Amazon's S3 protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3 {
    /// The bucket's name.
    pub bucket: String,
    /// The folder in the bucket; starts with `/`.
    pub folder: String,
    /// The host of the service.
    pub endpoint: String,
    /// The port of the service.
    pub port: u16,
    /// The region that requests are signed for.
    pub region: String,
    /// The access key.
    pub key: Secret,
    /// The secret key.
    pub secret: Secret,
}
