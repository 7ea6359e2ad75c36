//! Paths of tercet's files on a machine.

/// Configuration.
pub(crate) const CONFIGURATION: &str = "/etc/tercet";
/// Binaries and releases.
pub(crate) const LIBRARY: &str = "/usr/local/lib/tercet";
/// The machine's identity, lease and inventory.
pub(crate) const STATE: &str = "/var/lib/tercet";
/// Files that do not survive a reboot.
pub(crate) const RUNTIME: &str = "/run/tercet";
/// Secrets, readable by root; systemd passes them to units (LoadCredential).
pub(crate) const CREDENTIALS: &str = "/etc/tercet/credentials";
/// The prefix of the folders of application servers' credentials in it.
pub(crate) const CREDENTIALS_PREFIX: &str = "application-";
/// The file that turns the balancer's maintenance on while it exists.
pub const MAINTENANCE: &str = "/etc/tercet/maintenance";
/// The balancer's admin socket, in the runtime directory of its unit.
pub(crate) const ADMIN_SOCKET: &str = "/run/tercet-balancer/admin.sock";

/// The folder of the certificates of domains, the StateDirectory of the balancer's unit.
pub(crate) const CERTIFICATES: &str = "/var/lib/tercet-balancer";

/// The number of digits of a binary's digest in the name of its folder.
pub(crate) const PROGRAM_DIGITS: usize = 16;

/// The path of the binary with this beginning of its digest.
pub(crate) fn program(digest: &str) -> String {
    format!("{LIBRARY}/{digest}/tercet")
}
