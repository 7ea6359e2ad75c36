//! The receivers of the alerts with their secrets, which only the operator and the monitor have.

use anyhow::{Context as _, Result, bail, ensure};
use tercet_config::{Receiver, Topology, is_web_url};
use tercet_machine::Secret;

/// The receivers of a project, in the order of tercet.toml, and the heartbeat.
#[derive(Clone, Debug, Default)]
pub struct Receivers {
    /// The receivers.
    pub(crate) to: Vec<Channel>,
    /// The URL that is requested while the monitor works.
    pub(crate) heartbeat: Option<Secret>,
}

/// A receiver.
#[derive(Clone, Debug)]
pub(crate) enum Channel {
    /// The URL that gets Alertmanager's JSON.
    Webhook(Secret),
    /// The URL of a topic of an ntfy server.
    Ntfy(Secret),
    /// A mail address, and the server that takes the mail.
    Mail(String, MailServer),
}

/// A mail server.
#[derive(Clone, Debug)]
pub(crate) struct MailServer {
    /// Host and port.
    pub(crate) address: String,
    /// The name and the password.
    pub(crate) login: Option<(String, Secret)>,
    /// Whether the connection begins with TLS; otherwise STARTTLS follows.
    pub(crate) begins_with_tls: bool,
}

impl Receivers {
    /// Those of a topology; `read` returns a secret's text.
    ///
    /// # Errors
    /// A secret cannot be read, or is no URL.
    pub(crate) fn of(
        topology: &Topology,
        read: impl Fn(&tercet_config::Secret) -> Result<Secret>,
    ) -> Result<Self> {
        let alerts = topology.alerts();
        let url = |secret: &tercet_config::Secret| {
            let url = read(secret)?;
            ensure!(
                is_web_url(url.reveal()),
                "{}: it is no URL\nhint: it has to be like https://HOST/PATH",
                shown(secret)
            );
            Ok(url)
        };
        let server = alerts.smtp.as_ref().map(|smtp| {
            let text = read(smtp)?;
            MailServer::parse(text.reveal()).with_context(|| shown(smtp))
        });
        let server = server.transpose()?;
        let channel = |receiver: &Receiver| {
            Ok(match receiver {
                Receiver::Webhook(secret) => Channel::Webhook(url(secret)?),
                Receiver::Ntfy(secret) => Channel::Ntfy(url(secret)?),
                Receiver::Mail(address) => {
                    let server = server.clone().context("a mail address needs a mail server")?;
                    Channel::Mail(address.clone(), server)
                }
            })
        };
        Ok(Self {
            to: alerts.to.iter().map(channel).collect::<Result<_>>()?,
            heartbeat: alerts.heartbeat.as_ref().map(url).transpose()?,
        })
    }
}

/// A secret as a message may name it.
fn shown(secret: &tercet_config::Secret) -> String {
    match secret {
        tercet_config::Secret::File(path) => path.display().to_string(),
        tercet_config::Secret::Inline(_) => "[alerts] in tercet.toml".to_owned(),
    }
}

impl MailServer {
    /// Parses `smtps://USER:PASSWORD@HOST` or `smtp://USER:PASSWORD@HOST:587`; name and password may be percent-encoded.
    fn parse(url: &str) -> Result<Self> {
        let (begins_with_tls, rest) = match url.split_once("://") {
            Some(("smtps", rest)) => (true, rest),
            Some(("smtp", rest)) => (false, rest),
            _ => bail!("it is no URL of a mail server\nhint: write smtps://USER:PASSWORD@HOST"),
        };
        let rest = rest.trim_end_matches('/');
        let (login, host) = match rest.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, rest),
        };
        let default = if begins_with_tls { 465 } else { 587 };
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().context("the port of the mail server is no number")?),
            None => (host, default),
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
        ensure!(!host.is_empty() && host.chars().all(is_host), "the mail server has no host");
        // Alertmanager begins with TLS on this port, and on no other.
        ensure!(
            begins_with_tls == (port == 465),
            "the mail server's port is {port}\nhint: smtps:// has port 465; smtp:// has STARTTLS and another port, 587 or 25"
        );
        let login = login.map(|login| {
            let (name, password) =
                login.split_once(':').context("the mail server's login has no password")?;
            Ok::<_, anyhow::Error>((decoded(name)?, Secret::new(decoded(password)?)))
        });
        Ok(Self { address: format!("{host}:{port}"), login: login.transpose()?, begins_with_tls })
    }
}

/// A text without percent-encoding (RFC 3986, section 2.1).
fn decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.split_at_checked(2).context("a percent sign without two digits")?;
        let digit = |byte: u8| char::from(byte).to_digit(16).context("a percent sign without two digits");
        bytes.push((digit(digits.0[0])? * 16 + digit(digits.0[1])?) as u8);
        rest = digits.1;
    }
    String::from_utf8(bytes).context("percent-encoded bytes that are no UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_server_is_read_from_its_url() {
        let server = MailServer::parse("smtps://ops%40example.com:a%3Ab@mail.example.com").unwrap();
        let (name, password) = server.login.unwrap();
        assert_eq!(
            (&*server.address, &*name, password.reveal()),
            ("mail.example.com:465", "ops@example.com", "a:b")
        );
        let server = MailServer::parse("smtp://mail.example.com:25/").unwrap();
        assert!(server.address == "mail.example.com:25" && server.login.is_none() && !server.begins_with_tls);
        for url in [
            "https://mail",
            "smtps://u:p@mail:25",
            "smtp://mail:465",
            "smtps://u@mail",
            "smtps://",
            "smtps://u:%zz@mail",
            "smtp://u:p@ma il",
            "smtp://mail:port",
        ] {
            assert!(MailServer::parse(url).is_err(), "{url}");
        }
    }
}
