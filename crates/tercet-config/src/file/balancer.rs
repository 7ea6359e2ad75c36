//! The `[balancer]` section: the listeners, and the balancer's options with the same names as in its configuration
//! file.

use schemars::JsonSchema;
use serde::Deserialize;
use tercet_options::schema::OptionsOf;
use tercet_options::{Duration, balancer};

use super::Located;

/// Tier 1: where clients connect.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Balancer {
    /// The balancer's own options. First, so that the keys below replace those of the same name in the schema.
    #[serde(flatten)]
    pub(crate) options: OptionsOf<balancer::Config>,
    /// The addresses to listen on, each `IP:PORT`. Default: `["127.0.0.1:8080"]`; with `[[machine]]`s
    /// `["0.0.0.0:80", "[::]:80"]`.
    #[schemars(extend("examples" = [["0.0.0.0:8080"]]))]
    pub(crate) listen: Option<Located<Vec<Located<String>>>>,
    /// Certificates with their keys, for TLS: `[{ certificate = "tls/shop.crt", key = "tls/shop.key" }]`. The
    /// certificate is selected by the host name the client requests (SNI). Default: none, and no TLS.
    #[serde(default)]
    pub(crate) certificates: Vec<Located<Certificate>>,
    /// The TLS bind addresses, besides those of `listen`, each `IP:PORT`. Only with `domains` or `certificates`. Default:
    /// `["127.0.0.1:8443"]`; with `[[machine]]`s `["0.0.0.0:443", "[::]:443"]`.
    #[schemars(extend("examples" = [["0.0.0.0:8443"]]))]
    pub(crate) tls_listen: Option<Located<Vec<Located<String>>>>,
    /// Whether requests to the addresses of `listen` are answered by a permanent redirect (308) to the same URL with
    /// https, at port 443. Only with `domains` or `certificates`. Default: true with `[[machine]]`s, else false.
    pub(crate) redirect_to_https: Option<Located<bool>>,
    /// How long browsers use only https for the host name (`strict-transport-security`). Only with `domains` or `certificates`.
    /// Default: the header is not sent.
    #[schemars(extend("examples" = ["365d"]))]
    pub(crate) hsts: Option<Located<Duration>>,
}

/// A certificate and its key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Certificate {
    /// The PEM file with the certificate chain, the server's certificate first, relative to `tercet.toml`.
    pub(crate) certificate: Option<Located<String>>,
    /// The PEM file with the private key, relative to `tercet.toml`.
    pub(crate) key: Option<Located<String>>,
}
