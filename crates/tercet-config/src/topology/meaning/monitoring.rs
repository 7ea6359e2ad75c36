//! The `[monitoring]` section.

use std::net::IpAddr;

use super::machines::Placement;
use crate::file::File;
use crate::topology::{Tier, network};
use tercet_options::Mistakes;

/// The address of the user's own Prometheus.
pub(super) fn read(file: &File, placement: &Placement, mistakes: &mut Mistakes) -> Option<IpAddr> {
    let text = file.monitoring.prometheus.as_ref()?;
    if !placement.named {
        mistakes
            .add(
                text.span(),
                "[monitoring] prometheus is for machines, and the file names none",
                "for machines",
            )
            .hint("leave it out: `tercet up` prints the addresses of its metrics");
        return None;
    }
    let monitor = file.machine.iter().filter_map(|machine| machine.tiers.as_ref());
    let monitor =
        monitor.flat_map(|tiers| tiers.iter()).find(|it| super::machines::tier(it) == Tier::Monitor);
    if let Some(monitor) = monitor {
        mistakes
            .add(
                text.span(),
                "the machines have two monitors: this one, and the machine with the tier",
                "one",
            )
            .and(monitor.span(), "the other one")
            .hint("keep one of the two");
    }
    let address: Option<IpAddr> = text.parse().ok();
    let Some(address) = address.filter(|address| network::is_private(*address)) else {
        mistakes
            .add(text.span(), format!("{:?} is no private address", **text), "not a private address")
            .hint("metrics are sent without TLS: over a private network, from an address like 10.0.0.99");
        return None;
    };
    if let Some(machine) = placement.machines.iter().find(|machine| machine.address == address) {
        mistakes
            .add(
                text.span(),
                format!("{address} is the address of {}", machine.name),
                "a machine of the file",
            )
            .hint("give that machine the tier \"monitor\", or name the address of another");
    }
    Some(address)
}
