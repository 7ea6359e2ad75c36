//! What a machine should be: a plain value, made far from the machine and sent to it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::directory::Directory;
use crate::file::File;
use crate::firewall::Firewall;
use crate::inventory::Inventory;
use crate::package::Package;
use crate::sysctl::Sysctl;
use crate::unit::Unit;
use crate::user::User;

/// Everything that should hold on one machine. Within a kind, order is kept; the kinds follow each other
/// as the fields do, so that a unit finds its files, and a file its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Desired {
    /// Debian packages that are installed.
    pub packages: Vec<Package>,
    /// System users that exist.
    pub users: Vec<User>,
    /// Directories that exist.
    pub directories: Vec<Directory>,
    /// Files with these contents.
    pub files: Vec<File>,
    /// Files and links that do not exist.
    pub absent: Vec<PathBuf>,
    /// Kernel parameters.
    pub sysctls: Vec<Sysctl>,
    /// The one nftables table of ours.
    pub firewall: Option<Firewall>,
    /// systemd units, enabled and running or not.
    pub units: Vec<Unit>,
    /// A PostgreSQL cluster's roles and databases.
    pub cluster: Option<Cluster>,
    /// What was made here and is taken away.
    pub retired: Inventory,
}
