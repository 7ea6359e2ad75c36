//! The `[alerts]` section. The contents of files are checked when they are read.

use super::machines::Placement;
use crate::file::{self, File, Located};
use crate::topology::alerts::{Alerts, Receiver};
use crate::topology::{Secret, Tier};
use tercet_options::Mistakes;
use tercet_options::web_url::{WEB, is_url};

pub(super) fn read(file: &File, placement: &Placement, mistakes: &mut Mistakes) -> Alerts {
    let Some(section) = &file.alerts else { return Alerts::default() };
    if placement.carrying(Tier::Monitor).next().is_none() {
        mistakes
            .add(
                section.span(),
                "[alerts] is for a monitor, and no machine carries it",
                "sent by the monitor",
            )
            .hint("give a machine the tier \"monitor\", or leave this out");
    }
    let file::Alerts { to, heartbeat, smtp } = &**section;
    let to: Vec<(&Located<String>, Receiver)> = to
        .iter()
        .flat_map(|list| list.iter())
        .filter_map(|text| Some((text, receiver(text, mistakes)?)))
        .collect();
    let mail = to.iter().find(|(_, it)| matches!(it, Receiver::Mail(_)));
    match (smtp, mail) {
        (None, Some((text, _))) => {
            mistakes
                .add(text.span(), "a mail address needs a mail server", "by which server?")
                .hint("name a file that holds its URL: smtp = \"@secrets/smtp\"");
        }
        (Some(smtp), None) => {
            mistakes
                .add(smtp.span(), "smtp is for mail, and no receiver is an address", "for mail")
                .hint("add \"mail:ADDRESS\" to `to`, or leave this out");
        }
        _ => {}
    }
    let url = |text: &Located<String>, schemes: &[&str], mistakes: &mut Mistakes| {
        is_secret_url(text, schemes, text, mistakes).then(|| Secret::parse(text))
    };
    Alerts {
        heartbeat: heartbeat.as_ref().and_then(|text| url(text, WEB, mistakes)),
        smtp: smtp.as_ref().and_then(|text| url(text, &["smtps://", "smtp://"], mistakes)),
        to: to.into_iter().map(|(_, receiver)| receiver).collect(),
    }
}

fn receiver(text: &Located<String>, mistakes: &mut Mistakes) -> Option<Receiver> {
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    match kind {
        "webhook" => is_secret_url(text, WEB, rest, mistakes).then(|| Receiver::Webhook(Secret::parse(rest))),
        "ntfy" => is_secret_url(text, WEB, rest, mistakes).then(|| Receiver::Ntfy(Secret::parse(rest))),
        "mail" => {
            let parts = rest.split_once('@');
            let is_plain = |c: char| c.is_ascii_graphic() && !"<>,;:\"'()[]\\".contains(c);
            let is_address = parts.is_some_and(|(name, host)| {
                !name.is_empty() && host.contains('.') && !host.contains('@') && rest.chars().all(is_plain)
            });
            if !is_address {
                mistakes
                    .add(text.span(), format!("{rest:?} is no mail address"), "not an address")
                    .hint("write it like mail:ops@example.com");
            }
            is_address.then(|| Receiver::Mail(rest.to_owned()))
        }
        _ => {
            // What comes behind an unknown word may be a secret.
            mistakes
                .add(text.span(), "this is no receiver of alerts", "neither webhook, ntfy nor mail")
                .hint("write webhook:URL, ntfy:URL or mail:ADDRESS");
            None
        }
    }
}

/// Whether a text is a URL with one of these schemes and a host, or names a file; reports it otherwise, without the text, which may
/// be a secret.
fn is_secret_url(place: &Located<String>, schemes: &[&str], text: &str, mistakes: &mut Mistakes) -> bool {
    let valid = text.strip_prefix('@').map_or_else(|| is_url(text, schemes), |path| !path.is_empty());
    if !valid {
        mistakes
            .add(place.span(), "this is no URL", "not a URL")
            .hint(format!("write {}…, or \"@path\" of a file that holds it", schemes.join("… or ")));
    }
    valid
}
