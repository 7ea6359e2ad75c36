//! Where tercet's things are on a machine.

/// Configuration.
pub(crate) const CONFIGURATION: &str = "/etc/tercet";
/// Binaries and releases.
pub(crate) const LIBRARY: &str = "/usr/local/lib/tercet";
/// Secrets: root's alone; systemd hands each unit what it needs.
pub(crate) const CREDENTIALS: &str = "/etc/tercet/credentials";
/// Where the balancer listens for its operator; its runtime directory is the unit's.
pub(crate) const ADMIN_SOCKET: &str = "/run/tercet-balancer/admin.sock";
