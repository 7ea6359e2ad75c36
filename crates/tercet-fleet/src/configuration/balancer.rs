//! The balancer's configuration file, as far as a topology decides it; everything else is the balancer's default.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};
use tercet_config::Balancer;

/// What depends on where the balancer runs.
#[derive(Debug)]
pub struct Place<'a> {
    /// The addresses it speaks plain HTTP on.
    pub listen: &'a [SocketAddr],
    /// The addresses it speaks TLS on.
    pub tls_listen: &'a [SocketAddr],
    /// The files of its certificates, as it finds them.
    pub certificates: Vec<Certificate>,
    /// The servers.
    pub servers: Vec<Server>,
    /// The path of the health check; without one a server is healthy while it accepts connections.
    pub health_path: Option<&'a str>,
    /// The response header that names the server, if one does.
    pub served_by: Option<&'a str>,
    /// How long requests in flight may take when it stops; the balancer's default when it is `None`.
    pub drain: Option<Duration>,
    /// How a line of its access log looks; they all go to standard output.
    pub log_format: LogFormat,
    /// Where it is looked into.
    pub admin: Admin,
}

/// PEM files.
#[derive(Clone, Debug, Serialize)]
pub struct Certificate {
    /// The certificate and those up to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A server requests are handed to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The address of its health check, if it is a different one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_address: Option<SocketAddr>,
}

/// How a line of the access log looks.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Combined,
    /// For programs.
    Json,
}

/// Where the balancer is looked into.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admin {
    /// At this Unix socket, where it can be steered as well.
    Socket(PathBuf),
    /// At this address.
    Metrics(SocketAddr),
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Configuration<'a> {
    listen: Vec<Listen<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    served_by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "duration")]
    drain: Option<Duration>,
    #[serde(flatten)]
    options: toml::Table,
    access_log: AccessLog,
    admin: &'a Admin,
    servers: &'a [Server],
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case", untagged)]
enum Listen<'a> {
    Plain(SocketAddr),
    #[serde(rename_all = "kebab-case")]
    Redirecting {
        address: SocketAddr,
        redirect_to_https: bool,
    },
    Tls {
        address: SocketAddr,
        #[serde(skip_serializing_if = "Option::is_none")]
        hsts: Option<&'a str>,
        certificates: &'a [Certificate],
    },
}

#[derive(Serialize)]
struct AccessLog {
    format: LogFormat,
    to: &'static str,
}

impl Place<'_> {
    /// The text of the configuration file of this balancer here.
    ///
    /// # Errors
    /// A path is not UTF-8.
    pub fn configuration(&self, balancer: &Balancer) -> Result<String, toml::ser::Error> {
        toml::to_string(&Configuration {
            listen: listens(balancer, self),
            served_by: self.served_by,
            drain: self.drain,
            options: options(balancer, self),
            access_log: AccessLog { format: self.log_format, to: "stdout" },
            admin: &self.admin,
            servers: &self.servers,
        })
    }
}

/// The addresses in the clear, then those with TLS.
fn listens<'a>(balancer: &'a Balancer, place: &'a Place<'_>) -> Vec<Listen<'a>> {
    let tls = balancer.tls.as_ref();
    let redirects = tls.is_some_and(|tls| tls.redirect);
    let plain = place.listen.iter().map(|address| {
        if redirects {
            Listen::Redirecting { address: *address, redirect_to_https: true }
        } else {
            Listen::Plain(*address)
        }
    });
    let secure = place.tls_listen.iter().map(|address| Listen::Tls {
        address: *address,
        hsts: tls.and_then(|tls| tls.hsts.as_deref()),
        certificates: &place.certificates,
    });
    plain.chain(secure).collect()
}

/// The tables of the file's options, with complete health checks.
fn options(balancer: &Balancer, place: &Place<'_>) -> toml::Table {
    let mut options = balancer.options.clone();
    if let Some(path) = place.health_path {
        let health = options.entry("health").or_insert_with(|| toml::Table::new().into());
        if let Some(health) = health.as_table_mut() {
            health.insert("path".to_owned(), path.into());
        }
    }
    options
}

fn milliseconds(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

#[expect(clippy::ref_option, reason = "serde gives a reference")]
fn duration<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(milliseconds).serialize(serializer)
}
