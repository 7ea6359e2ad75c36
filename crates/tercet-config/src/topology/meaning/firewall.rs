//! The `[firewall]` section.

use crate::file::{Firewall, Located};
use crate::topology::{Network, SshFrom};
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
