//! The list of the kinds of resources: a new kind is a file in `resources` and a line here.

use std::path::PathBuf;

pub mod absent;
pub mod cluster;
pub mod data_directory;
pub mod directory;
pub mod drop_in;
pub mod file;
pub mod firewall;
pub mod main_cluster;
pub mod package;
pub mod settings;
pub mod sysctl;
pub mod translation;
pub mod tree;
pub mod unit;
pub mod user;

// Created in this order, and removed in the reverse: a unit finds its files, and a file its owner.
crate::registry::resources! {
    /// Debian packages.
    Package in packages: Vec<package::Package>;
    /// Debian's PostgreSQL cluster.
    MainCluster in main_cluster: Option<main_cluster::MainCluster>;
    /// System users.
    User in users: Vec<user::User>;
    /// Directories.
    Directory in directories: Vec<directory::Directory>;
    /// Directories of data.
    DataDirectory in data_directories: Vec<data_directory::DataDirectory>;
    /// Files.
    File in files: Vec<file::File>;
    /// Paths that do not exist.
    Absent in absent: Vec<PathBuf>;
    /// Trees that only root may change.
    Tree in trees: Vec<tree::Tree>;
    /// Kernel parameters.
    Sysctl in sysctls: Vec<sysctl::Sysctl>;
    /// Drop-ins of units.
    DropIn in drop_ins: Vec<drop_in::DropIns>;
    /// The PostgreSQL cluster's files of settings.
    Setting in settings: Option<settings::Settings>;
    /// systemd units.
    Unit in units: Vec<unit::Unit>;
    /// The PostgreSQL cluster's roles and databases.
    Cluster in cluster: Option<cluster::Cluster>;
    /// Other tables' rules that redirect the machine's connections.
    Translation in translations: Option<translation::Translations>;
    /// tercet's nftables table.
    Firewall in firewall: Option<firewall::Firewall>;
}
