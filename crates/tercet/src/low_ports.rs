//! The right to listen on ports below 1024, which `tercet up` keeps for the balancer when it gives up root.

/// Gives it up, for this process and what it starts. Root has it anyway and keeps it.
///
/// # Errors
/// The kernel refuses.
#[cfg(target_os = "linux")]
pub(crate) fn give_up() -> rustix::io::Result<()> {
    use rustix::thread::{
        CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities,
    };
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    // On machines there is nothing to give up, and the unit's system call filter kills who calls capset(2).
    let held = capabilities(None)?;
    if (held.permitted | held.effective | held.inheritable).is_empty() {
        return Ok(());
    }
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
}

/// There is nothing to give up.
#[cfg(not(target_os = "linux"))]
pub(crate) fn give_up() -> rustix::io::Result<()> {
    Ok(())
}
