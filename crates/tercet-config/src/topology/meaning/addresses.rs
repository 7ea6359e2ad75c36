//! The addresses that the balancer listens on.

use std::net::SocketAddr;

use crate::file::Located;
use tercet_options::Mistakes;

/// Parses a list of addresses, or else `default`. `taken` are the addresses of other listeners.
pub(super) fn read(
    list: Option<&Located<Vec<Located<String>>>>,
    default: &[&str],
    taken: &[SocketAddr],
    mistakes: &mut Mistakes,
) -> Vec<SocketAddr> {
    let Some(list) = list else {
        return default.iter().map(|text| text.parse().expect("a default is an address")).collect();
    };
    if list.is_empty() {
        mistakes
            .add(list.span(), "the balancer must listen on an address", "none")
            .hint(format!("leave the key out for {}", default.join(" and ")));
    }
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for text in list.iter() {
        let Ok(address) = text.parse::<SocketAddr>() else {
            let message = format!("{:?} is no address to listen on", **text);
            let added = mistakes.add(text.span(), message, "not IP:PORT");
            added.hint("write it like 0.0.0.0:8080, or [::]:8080 for IPv6");
            continue;
        };
        // Port 0 is a free port, a different one each time.
        if address.port() != 0 && (addresses.contains(&address) || taken.contains(&address)) {
            mistakes.add(text.span(), format!("the balancer can't listen on {address} twice"), "again");
        }
        addresses.push(address);
    }
    addresses
}
