//! The network interfaces of a machine: virtual Ethernet pairs into the switch.

use std::process::Command;

use anyhow::Result;

use super::machines::Machine;
use crate::command::output;

/// A fresh network namespace for each boot: no address and no firewall rule survives unless the machine itself
/// restores it. Hardware addresses stay, or neighbours would send to the old one for half a minute.
pub(super) fn plug_in(machine: Machine) -> Result<()> {
    let Machine { name, host, public, .. } = machine;
    unplug(machine);
    ip(&format!("netns add {name}"))?;
    let hardware = |network: u8| format!("52:54:00:4c:{network:02x}:{host:02x}");
    ip(&format!("link add v-{name} type veth peer name eth0 address {} netns {name}", hardware(1)))?;
    ip(&format!("link set v-{name} master inner up"))?;
    if public {
        ip(&format!("link add x-{name} type veth peer name eth1 address {} netns {name}", hardware(2)))?;
        ip(&format!("link set x-{name} master outer up"))?;
    }
    Ok(())
}

/// Removes the machine's network, if there is one. The links by name: the kernel takes its time to remove those of a
/// namespace that is gone, and their names are needed at once.
pub(super) fn unplug(machine: Machine) {
    for end in ["v", "x"] {
        let _ = ip(&format!("link delete {end}-{}", machine.name));
    }
    let _ = ip(&format!("netns delete {}", machine.name));
}

/// Runs `ip` (ip(8)) with `arguments`, separated by spaces.
pub(super) fn ip(arguments: &str) -> Result<()> {
    output(Command::new("ip").args(arguments.split(' '))).map(drop)
}
