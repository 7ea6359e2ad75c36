//! Where tercet's things are on a machine.

/// Configuration.
pub(crate) const CONFIGURATION: &str = "/etc/tercet";
/// Binaries and releases.
pub(crate) const LIBRARY: &str = "/usr/local/lib/tercet";
/// What tercet knows of the machine: whose it is, its lease, what was made on it.
pub(crate) const STATE: &str = "/var/lib/tercet";
/// What is gone after a reboot.
pub(crate) const RUNTIME: &str = "/run/tercet";
/// Secrets: root's alone; systemd hands each unit what it needs.
pub(crate) const CREDENTIALS: &str = "/etc/tercet/credentials";
/// How the folders in it begin that application servers' credentials are in.
pub(crate) const CREDENTIALS_PREFIX: &str = "application-";
/// Where the balancer listens for its operator; its runtime directory is the unit's.
pub(crate) const ADMIN_SOCKET: &str = "/run/tercet-balancer/admin.sock";

/// How many digits of its digest a binary's folder is named by.
pub(crate) const PROGRAM_DIGITS: usize = 16;

/// Where tercet's binary is whose digest begins so.
pub(crate) fn program(digest: &str) -> String {
    format!("{LIBRARY}/{digest}/tercet")
}
