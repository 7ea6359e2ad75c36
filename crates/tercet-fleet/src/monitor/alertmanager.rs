//! The configuration of Alertmanager: where the alerts go. Which of them another one explains is part of their rules.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tercet_machine::Secret;

use super::receivers::{Channel, MailServer, Receivers};
use super::yaml::yaml;

/// The file's name.
pub(crate) const FILE: &str = "alertmanager.yml";

/// The alert that always fires, for the heartbeat.
pub(crate) const HEARTBEAT: &str = "heartbeat";

/// The receiver of what is sent nowhere.
const NONE: &str = "none";

/// What an ntfy server makes of Alertmanager's JSON: a title and a text, by its own templates, which are Go's
/// (<https://docs.ntfy.sh/publish/#message-templating>).
const NTFY: [(&str, &str); 3] = [
    ("tpl", "1"),
    ("t", "{{.status}}: {{.commonLabels.alertname}}"),
    ("m", "{{range .alerts}}{{.annotations.summary}}\n{{.annotations.description}}\n{{end}}"),
];

/// The name of the receiver with this index among those of tercet.toml; its log lines have it.
pub(crate) fn receiver(index: usize) -> String {
    format!("receiver-{}", index + 1)
}

/// The configuration file (<https://prometheus.io/docs/alerting/latest/configuration/>).
pub(crate) fn configuration(receivers: &Receivers) -> Secret {
    let mut routes = Vec::new();
    let mut all = vec![json!({ "name": NONE })];
    if let Some(url) = &receivers.heartbeat {
        routes.push(json!({
            "receiver": HEARTBEAT,
            "matchers": [format!("alertname = {HEARTBEAT}")],
            "group_interval": "30s",
            "repeat_interval": "1m",
        }));
        let webhook = json!({ "url": url.reveal(), "send_resolved": false });
        all.push(json!({ "name": HEARTBEAT, "webhook_configs": [webhook] }));
    }
    for (index, channel) in receivers.to.iter().enumerate() {
        let name = receiver(index);
        routes.push(json!({ "receiver": name, "continue": true }));
        let (kind, configuration) = of_channel(channel);
        let mut one = json!({ "name": name });
        one[kind] = json!([configuration]);
        all.push(one);
    }
    let mut route = json!({
        "receiver": NONE,
        "group_by": ["alertname", "machine"],
        "group_wait": "5s",
        "group_interval": "15s",
        "repeat_interval": "4h",
    });
    if !routes.is_empty() {
        route["routes"] = routes.into();
    }
    Secret::new(yaml(&json!({ "route": route, "receivers": all })))
}

fn of_channel(channel: &Channel) -> (&'static str, Value) {
    match channel {
        Channel::Webhook(url) => ("webhook_configs", json!({ "url": url.reveal(), "send_resolved": true })),
        Channel::Ntfy(url) => {
            let mut url = url.reveal().to_owned();
            for (name, value) in NTFY {
                let sign = if url.contains('?') { '&' } else { '?' };
                write!(url, "{sign}{name}={}", encoded(value)).expect("writing to a String cannot fail");
            }
            ("webhook_configs", json!({ "url": url, "send_resolved": true }))
        }
        Channel::Mail(address, MailServer { address: server, login, begins_with_tls }) => {
            let name = login.as_ref().map(|(name, _)| name);
            let mut mail = json!({
                "to": address,
                "from": name.filter(|name| name.contains('@')).unwrap_or(address),
                "smarthost": server,
                "require_tls": !begins_with_tls,
                "send_resolved": true,
            });
            if let Some((name, password)) = login {
                mail["auth_username"] = name.as_str().into();
                mail["auth_password"] = password.reveal().into();
            }
            ("email_configs", mail)
        }
    }
}

/// A text as a value in the query of a URL.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    encoded
}
