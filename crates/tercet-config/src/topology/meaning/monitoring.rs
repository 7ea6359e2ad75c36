//! The `[monitoring]` section.

use std::net::IpAddr;

use tercet_options::otlp::Otlp;
use tercet_options::{Located, Mistakes};

use super::machines::Placement;
use crate::file::File;
use crate::topology::{Application, Balancer, Server, Tier, network};

/// The collector of traces; the schema has the format of its URL.
pub(super) fn otlp(file: &File, mistakes: &mut Mistakes) -> Option<Otlp> {
    let section = &file.monitoring;
    let spans = [
        ("otlp-sample", section.otlp_sample.as_ref().map(Located::span)),
        ("otlp-slow", section.otlp_slow.as_ref().map(Located::span)),
    ];
    let Some(endpoint) = &section.otlp else {
        for (key, span) in spans {
            if let Some(span) = span {
                mistakes
                    .add(span, format!("{key} is for traces, and no collector is named"), "for otlp")
                    .hint("add otlp = \"http://COLLECTOR:4318\", or leave this out");
            }
        }
        return None;
    };
    let default = Otlp::default();
    Some(Otlp {
        endpoint: Some(endpoint.to_string()),
        sample: section.otlp_sample.as_deref().copied().unwrap_or(default.sample),
        slow: section.otlp_slow.as_deref().copied().unwrap_or(default.slow),
    })
}

/// The options of traces of the balancer's configuration, and of the data API's.
pub(super) fn lower(otlp: &Otlp, balancer: &mut Balancer, applications: &mut [Application]) {
    let Otlp { endpoint, sample, slow } = otlp;
    let options = [
        ("endpoint", endpoint.clone().unwrap_or_default()),
        ("sample", sample.to_string()),
        ("slow", slow.to_string()),
    ];
    let of_balancer = options.clone().map(|(name, value)| (name.to_owned(), value.into()));
    balancer.options.insert("otlp".to_owned(), toml::Table::from_iter(of_balancer).into());
    for application in applications {
        if let Server::Api(api) = &mut application.server {
            let options = options.clone().map(|(name, value)| (format!("otlp-{name}"), value.into()));
            api.options.extend(options);
        }
    }
}

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
