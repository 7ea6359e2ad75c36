//! What the firewalls accept: the `[firewall]` section, and `egress` of a tier.

use crate::file::{Firewall, Located};
use crate::topology::{Destination, Egress, Network, SshFrom};
use tercet_options::Mistakes;

/// Every address.
const ANYWHERE: &str = "anywhere";

pub(super) fn read(section: &Firewall, mistakes: &mut Mistakes) -> SshFrom {
    let Some(list) = &section.ssh_from else { return SshFrom::Here };
    if let [only] = &list[..]
        && only.as_str() == ANYWHERE
    {
        return SshFrom::Anywhere;
    }
    if list.is_empty() {
        mistakes
            .add(list.span(), "no address could connect by ssh", "none")
            .hint("leave it out for the address that you connect from, or name networks");
    }
    SshFrom::Networks(list.iter().filter_map(|text| network(text, mistakes)).collect())
}

fn network(text: &Located<String>, mistakes: &mut Mistakes) -> Option<Network> {
    let network = text.parse().ok();
    if network.is_none() {
        mistakes
            .add(text.span(), format!("{:?} is no network", **text), "not a network")
            .hint("write it like 203.0.113.0/24 or 2001:db8::/32; or [\"anywhere\"] alone");
    }
    network
}

/// Where a tier may connect to.
pub(super) fn egress(
    list: Option<&Located<Vec<Located<String>>>>,
    default: Egress,
    mistakes: &mut Mistakes,
) -> Egress {
    let Some(list) = list else { return default };
    if let [only] = &list[..]
        && only.as_str() == ANYWHERE
    {
        return Egress::Anywhere;
    }
    Egress::Only(list.iter().filter_map(|text| destination(text, mistakes)).collect())
}

fn destination(text: &Located<String>, mistakes: &mut Mistakes) -> Option<Destination> {
    let destination = text.parse().ok();
    if destination.is_none() {
        mistakes
            .add(text.span(), format!("{:?} is no destination", **text), "not a destination")
            .hint("write a network, a port or both: 10.0.0.0/24, \"*:443\", 10.0.0.30:6379; names have changing addresses");
    }
    destination
}
