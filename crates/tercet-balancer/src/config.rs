//! What the balancer is told to do: `tercet balancer --config FILE`.
//!
//! A [`Config`] is a plain value, made from a TOML file here or from a topology by the command. It refuses to know
//! `tercet.toml` and what a machine is. Every option has a default or is required, and none is read and ignored.
//! The sentences on the fields are what people read in `docs/guide/balancer-options.md`.

mod default;
mod duration;
mod entry;
mod problem;
mod size;
mod validate;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::problem::{Problem, Problems};
use crate::http1::HeadLimits;

/// Everything the balancer is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Config {
    /// Where clients are listened for: addresses like `"0.0.0.0:80"`, or tables when there is more to say.
    pub listen: Vec<Listen>,
    /// Who answers the requests: addresses like `"10.0.0.11:8080"`, or tables when there is more to say. Required.
    pub servers: Vec<Server>,
    /// How a server is picked for a request.
    pub policy: Policy,
    /// What a request is hashed by when `policy = "hash"`: `"client"` (its address) or a header's name.
    pub hash_on: Option<HashOn>,
    /// Networks whose `forwarded`, `x-forwarded-…`, `x-request-id` and `traceparent` are believed and added to, like
    /// `"10.0.0.0/8"`. From everybody else they are replaced.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub trusted_proxies: Vec<IpNet>,
    /// A response header that tells clients which server answered, by its name; none unless set.
    pub served_by: Option<String>,
    /// Threads that serve, each with its own listeners, event loop and connections to servers; 0: one per core.
    pub workers: usize,
    /// How long a stopping balancer, or a server taken out, gives requests to finish before they are cut off.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub drain: Duration,
    /// How it is found out whether a server lives.
    pub health: Health,
    /// When a request is tried on another server.
    pub retries: Retries,
    /// How much is taken before it is refused.
    pub limits: Limits,
    /// How long is waited.
    pub timeouts: Timeouts,
    /// One line for every request.
    pub access_log: AccessLog,
    /// How to look inside and to steer.
    pub admin: Admin,
}

/// One address clients connect to.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Listen {
    /// IP address and port. Required in a table.
    #[cfg_attr(test, schemars(with = "String"))]
    pub address: SocketAddr,
    /// Certificates; with at least one, this address speaks TLS (1.2 and 1.3), and HTTP/2 to clients that ask for
    /// it. Without, HTTP/1.1 and HTTP/2 with prior knowledge.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// Whether every connection starts with a PROXY protocol header (version 1 or 2) of the proxy in front. Without
    /// one the connection is closed; so nobody but that proxy may be able to connect.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Whether requests are answered by a permanent redirect (308) to the same URL with https.
    #[serde(default)]
    pub redirect_to_https: bool,
    /// For how long browsers shall use nothing but https for this name (`strict-transport-security`); not said
    /// unless set.
    #[serde(default, with = "duration::optional")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub hsts: Option<Duration>,
}

/// A certificate and its key. Files are read again when they change; names are those the certificate holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Certificate {
    /// The PEM file with the certificate and those up to its authority. Required.
    pub certificate: PathBuf,
    /// The PEM file with the private key. Required.
    pub key: PathBuf,
}

/// One server requests are handed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Server {
    /// What logs, metrics and the admin socket call it; its address unless set.
    pub name: String,
    /// IP address and port. Required in a table.
    #[cfg_attr(test, schemars(with = "String"))]
    pub address: SocketAddr,
    /// IP address and port that health checks ask, for a server whose health page has a port of its own; its address
    /// unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub health_address: Option<SocketAddr>,
    /// Its share of requests compared with the others'; 1 to 256.
    pub weight: u16,
    /// Requests it gets at the same time; more wait in the queue. 0: no limit.
    pub max_connections: u32,
    /// Requests that may share a connection to it, sent one behind the other without waiting for answers (pipelined):
    /// safe ones without a body, and only while its answers come at once. Saves writes when the balancer is busy; for a
    /// server that answers quickly and exactly by RFC 9112. 1: each has a connection of its own; at most 64.
    pub pipeline: u16,
}

/// How a server is picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Policy {
    /// In strict round-robin order, the same for all connections and threads.
    #[default]
    RoundRobin,
    /// The one with the fewest requests in flight for its weight.
    LeastConnections,
    /// The less busy of two picked at random.
    RandomTwo,
    /// The same one for the same `hash-on`, as long as it lives.
    Hash,
}

/// What the `hash` policy looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(with = "String"))]
pub enum HashOn {
    /// The client's address.
    Client,
    /// The value of this header; requests without it go by the client's address.
    Header(String),
}

/// How it is found out whether a server lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Health {
    /// The path that is asked for: a status below 500 passes, one of 500 or more takes the server out at once. Unless
    /// set, a server passes that accepts a connection; one that has requests and says nothing is asked `OPTIONS *`, to
    /// which any answer will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// From the start of one check to the start of the next.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub interval: Duration,
    /// How long a check may take, connecting included.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub timeout: Duration,
    /// Checks in a row that must pass before a server that was down gets requests.
    pub rise: NonZeroU32,
    /// Checks in a row that must fail (no connection, no answer in time, no HTTP) before a server gets no new requests
    /// while others pass. A late answer is no failure while requests are answered. While some wait there it is none
    /// either, but new requests go to others until the server says something again.
    pub fall: NonZeroU32,
    /// Requests in a row that must fail (no connection, no answer in time, closed without one) before a server is
    /// ejected without waiting for a check; the last one that is up never is. What it answers does not count.
    pub ejection_failures: NonZeroU32,
    /// How long a server is ejected the first time. Each further time doubles it, until nothing failed for
    /// `ejection-time-max`. A server that checks find down and then well again is back at once.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub ejection_time: Duration,
    /// The longest a server is ejected.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub ejection_time_max: Duration,
    /// How long a server that came back takes to get its whole share of requests; `"0s"`: at once.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub slow_start: Duration,
}

/// When a request is tried on another server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Retries {
    /// How often a request is tried again at most; 0: never. What a server may have seen is tried again only when
    /// its method is idempotent; a POST is never sent twice.
    pub attempts: u32,
    /// Retries that may be under way for every 100 requests in flight, so that an outage is not multiplied.
    pub budget_percent: u32,
    /// Retries that may be under way whatever the budget says.
    pub budget_minimum: u32,
}

/// How much is taken before it is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Limits {
    /// Size of a request's head, 1KiB to 1MiB; beyond: 431.
    #[serde(with = "size")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub head: u64,
    /// Header lines of a message, 1 to 1000; beyond: 431.
    pub headers: usize,
    /// Length of a request's target; beyond: 414.
    #[serde(with = "size")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub target: u64,
    /// Size of a request's body; beyond: 413.
    #[serde(with = "size")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub body: u64,
    /// Size of a response's head, 1KiB to 1MiB; beyond: the client gets a 502.
    #[serde(with = "size")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub response_head: u64,
    /// Client connections open at the same time; beyond: new ones wait in the kernel until one closes. 0: no limit.
    pub connections: usize,
    /// Connections of one client (an IPv4 address, or an IPv6 /64) open at the same time; beyond: new ones are closed.
    /// 0: no limit.
    pub connections_per_client: usize,
    /// Requests a second of one client (an IPv4 address, or an IPv6 /64) on average; beyond: 429. 0: no limit.
    pub requests_per_second: u32,
    /// Requests a client may be ahead of its average.
    pub request_burst: u32,
    /// Requests that wait for a server while all are at their `max-connections`; beyond: 503.
    pub queue: usize,
    /// Requests one HTTP/2 connection may have under way.
    pub http2_streams: u32,
}

/// How long is waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Timeouts {
    /// For a client's TLS handshake and PROXY protocol header; then the connection is closed.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub handshake: Duration,
    /// For a whole request head, from its first byte (or the connection's start) on; then 408.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub head: Duration,
    /// For more of a request's body; then 408.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub body: Duration,
    /// For a client to take more of its response; then the connection is closed.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub send: Duration,
    /// For the next request on a connection kept alive; then it is closed.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub idle: Duration,
    /// For a connection to a server; then the next server is tried.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub connect: Duration,
    /// For a server to take more of a request, and then to begin its response; then 504.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub response: Duration,
    /// For more of a response's body; then the connection is closed. Server-sent events must come at least this often.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub response_body: Duration,
    /// For traffic in either direction after an upgrade (WebSocket); then the connection is closed.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub upgrade: Duration,
    /// For the next request on a connection to a server; then it is closed. Shorter than the servers' own, so that no
    /// request meets a server that is just closing.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub server_idle: Duration,
    /// For a place at a server, in the queue; then 503.
    #[serde(with = "duration")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub queue: Duration,
}

/// One line for every request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AccessLog {
    /// `"stdout"`, `"off"`, or a file, which is opened again on SIGUSR1.
    pub to: AccessLogTo,
    /// How a line looks.
    pub format: AccessLogFormat,
}

/// Where the access log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(into = "PathBuf")]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(with = "String"))]
pub enum AccessLogTo {
    /// To standard output.
    #[default]
    Stdout,
    /// Nowhere.
    Off,
    /// To this file.
    File(PathBuf),
}

/// How a line of the access log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum AccessLogFormat {
    /// The combined log format, followed by server, server seconds, seconds and request id.
    #[default]
    Combined,
    /// A JSON object.
    Json,
}

/// How to look inside and to steer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Admin {
    /// A Unix socket for draining, reloading and looking at servers and recent requests; only its owner may
    /// use it. None unless set.
    pub socket: Option<PathBuf>,
    /// An address for `/live`, `/ready` and `/metrics` (Prometheus), not to be reachable from outside. None unless
    /// set.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub metrics: Option<SocketAddr>,
}

impl Config {
    /// Reads a configuration file. Relative paths in it start at its folder.
    pub fn load(file: &Path) -> Result<Self, Problems> {
        let text = std::fs::read_to_string(file).map_err(|error| Problems::unreadable(file, &error))?;
        let mut config = Self::parse(&text, file)?;
        config.start_paths_at(file.parent().unwrap_or(Path::new("")));
        Ok(config)
    }

    /// Reads what a configuration file says; `file` is only named in problems.
    pub fn parse(text: &str, file: &Path) -> Result<Self, Problems> {
        let config: Self = toml::from_str(text).map_err(|error| Problems::syntax(file, text, &error))?;
        config.validate().map_err(|problems| problems.located(file, text))?;
        Ok(config)
    }

    fn start_paths_at(&mut self, folder: &Path) {
        let certificates = self.listen.iter_mut().flat_map(|listen| &mut listen.certificates);
        let mut paths: Vec<&mut PathBuf> =
            certificates.flat_map(|pair| [&mut pair.certificate, &mut pair.key]).collect();
        paths.extend(&mut self.admin.socket);
        if let AccessLogTo::File(path) = &mut self.access_log.to {
            paths.push(path);
        }
        for path in paths {
            *path = folder.join(&*path);
        }
    }
}

impl Limits {
    /// The limits of a request's head.
    pub fn request_head(&self) -> HeadLimits {
        self.head_limits(self.head)
    }

    /// The limits of a response's head.
    pub fn response_head(&self) -> HeadLimits {
        self.head_limits(self.response_head)
    }

    fn head_limits(&self, head: u64) -> HeadLimits {
        HeadLimits {
            head_bytes: head as usize,
            headers: self.headers,
            target_bytes: self.target as usize,
            body_bytes: self.body,
        }
    }
}

impl Listen {
    /// A plain HTTP listener on this address.
    pub fn on(address: SocketAddr) -> Self {
        Self {
            address,
            certificates: Vec::new(),
            proxy_protocol: false,
            redirect_to_https: false,
            hsts: None,
        }
    }
}

impl Server {
    /// A server of this name at this address, with weight 1 and no limit.
    pub fn new(name: impl Into<String>, address: SocketAddr) -> Self {
        Self { name: name.into(), address, health_address: None, weight: 1, max_connections: 0, pipeline: 1 }
    }
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
