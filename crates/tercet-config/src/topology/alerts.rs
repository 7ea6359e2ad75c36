//! Where alerts are sent.

use std::path::Path;

use super::Secret;

/// The receivers of the alerts, and the heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alerts {
    /// The receivers, in the order of the file.
    pub to: Vec<Receiver>,
    /// The URL that is requested while the monitor works.
    pub heartbeat: Option<Secret>,
    /// The URL of the mail server; there is one if a receiver is a mail address.
    pub smtp: Option<Secret>,
}

impl Alerts {
    /// The files with secrets.
    pub(super) fn secret_files(&self) -> impl Iterator<Item = &Path> {
        let receivers = self.to.iter().filter_map(|receiver| match receiver {
            Receiver::Webhook(url) | Receiver::Ntfy(url) => Some(url),
            Receiver::Mail(_) => None,
        });
        receivers.chain(&self.heartbeat).chain(&self.smtp).filter_map(Secret::file)
    }
}

/// A receiver of alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// The URL that gets Alertmanager's JSON by POST.
    Webhook(Secret),
    /// The URL of a topic of an ntfy server.
    Ntfy(Secret),
    /// A mail address.
    Mail(String),
}
