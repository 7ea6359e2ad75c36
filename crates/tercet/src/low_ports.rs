//! The capability to bind ports below 1024 (CAP_NET_BIND_SERVICE), which `tercet up` keeps for the balancer when it drops
//! root.

/// Drops all capabilities of this process and its children. No effect for root.
///
/// # Errors
/// A system call fails.
#[cfg(target_os = "linux")]
pub(crate) fn drop_capability() -> rustix::io::Result<()> {
    use rustix::thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    };
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    // On machines there is nothing to drop, and the unit's system call filter kills a process that calls capset(2).
    let held = capabilities(None)?;
    if (held.permitted | held.effective | held.inheritable).is_empty() {
        return Ok(());
    }
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}

/// There is nothing to drop.
#[cfg(not(target_os = "linux"))]
pub(crate) fn drop_capability() -> rustix::io::Result<()> {
    Ok(())
}
