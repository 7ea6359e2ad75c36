//! The options of the balancer: `tercet balancer --config FILE`, and `[balancer]` of `tercet.toml`.
//!
//! An option is set by `x-set-by-tercet` to be one of the balancer's own file only. Ranges and formats are in the types
//! and in the attributes; `contradictions` has the rules between options.

mod acme;
mod compression;
mod contradictions;
mod entry;
mod pages;
mod pool;
mod route;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::acme::{Acme, ExternalAccount};
pub use self::compression::{Compress, Compression, ContentCoding};
pub use self::entry::EntryOrAddress;
pub use self::pages::{ErrorPages, Maintenance};
pub use self::pool::{APPLICATION, BackendPool, Overrides, Pool};
pub use self::route::{BasicAuth, Route};
pub use crate::authority::Directory;
use crate::diagnostic::Mistakes;
use crate::document::{self, Section};
use crate::otlp::Otlp;
use crate::quantity::{Duration, Size, Timeout};
use crate::schema;
pub use crate::server_address::{NoAddress, ServerAddress};

options! {
    /// The options of `tercet balancer --config FILE`.
    pub struct Config {
        /// The addresses to listen on: `"IP:PORT"` each, or a table with more options.
        #[serde(deserialize_with = "entry::list")]
        #[schemars(
            with = "Vec<EntryOrAddress<Listen>>",
            length(min = 1),
            extend("x-set-by-tercet" = "listen in [balancer] has the addresses", "examples" = [["0.0.0.0:80"]])
        )]
        listen: Vec<Listen> = vec![Listen::on(SocketAddr::from(([127, 0, 0, 1], 8080)))],
        /// The servers of the backend pool `application`, which gets the requests that no route sends elsewhere: the address of
        /// each, or a table with more options. Required, unless there is a `[pool.NAME]`.
        #[serde(deserialize_with = "entry::list", skip_serializing_if = "Vec::is_empty")]
        #[schemars(
            with = "Vec<EntryOrAddress<Server>>",
            length(min = 1),
            extend("x-set-by-tercet" = "servers in [application] is their number", "examples" = [["127.0.0.1:3000"]])
        )]
        servers: Vec<Server> = Vec::new(),
        /// More backend pools, by their names, for the requests of routes.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        #[schemars(extend(
            "propertyNames" = {"format": "pool name"},
            "x-set-by-tercet" = "each [application.NAME] is a backend pool"
        ))]
        pool: BTreeMap<String, Pool> = BTreeMap::new(),
        /// The routes: which requests are answered with files, and which go to a server. Default: none, and every request goes
        /// to a server.
        route: Vec<Route> = Vec::new(),
        /// Whether responses of servers are compressed; a route may say otherwise.
        compress: Compress = Compress::Off,
        /// How responses of servers are compressed.
        compression: Compression = Compression::default(),
        /// Error pages: what clients that prefer HTML to JSON get in place of the balancer's own responses.
        error_pages: ErrorPages = ErrorPages::default(),
        /// Maintenance: while it is on, requests are answered with 503.
        maintenance: Maintenance = Maintenance::default(),
        /// The balancing policy: which server gets the next request.
        policy: Policy = Policy::RoundRobin,
        /// The input of the hash when `policy = "hash"`: `"client"` (the client's address), or a header name. Default:
        /// `client`.
        #[schemars(extend("examples" = ["authorization"]))]
        hash_on: Option<HashOn> = None,
        /// Networks of trusted proxies in front of the balancer, like `"10.0.0.0/8"`. Their `forwarded`, `x-forwarded-…`,
        /// `x-request-id` and `traceparent` are kept and extended; those of other clients are replaced. With `otlp`, the `traceparent`
        /// of any client is continued.
        #[serde(deserialize_with = "entry::networks")]
        #[schemars(with = "Vec<entry::Network>", extend("examples" = [["10.0.0.0/8"]]))]
        trusted_proxies: Vec<IpNet> = Vec::new(),
        /// How often the names of servers are resolved again. A server with a name of several addresses gets its connections
        /// from the one that accepts first, beginning with another each time.
        #[schemars(extend("x-set-by-tercet" = "the servers of tercet have addresses"))]
        resolve_interval: Timeout = Timeout::seconds(10),
        /// The name of a response header whose value is the server's name. Default: no such header.
        #[schemars(extend(
            "format" = "header name",
            "x-set-by-tercet" = "`tercet up` sends the name in x-served-by"
        ))]
        served_by: Option<String> = None,
        /// The number of threads that serve requests, each with its own listeners, event loop and connections to servers,
        /// at most 1024. 0: one per core.
        #[schemars(range(max = 1024), extend("x-set-by-tercet" = "there is one for each core"))]
        workers: usize = 0,
        /// How long requests in flight may take to finish when the balancer stops or a server is removed; then their
        /// connections are closed.
        #[schemars(extend("x-set-by-tercet" = "tercet gives them 30 seconds on machines, 10 under `tercet up`"))]
        drain: Duration = Duration::seconds(30),
        /// The domain names that certificates are obtained for, and renewed, from a certificate authority (ACME): one
        /// certificate for each name. Each name must lead to this balancer, on port 80 or 443. Naming a domain accepts the
        /// terms of service of the authority. Default: none.
        #[serde(deserialize_with = "entry::domains")]
        #[schemars(with = "Vec<entry::Domain>", extend("examples" = [["shop.example.com"]]))]
        domains: Vec<String> = Vec::new(),
        /// How the certificates of `domains` are obtained.
        acme: Acme = Acme::default(),
        /// Health checks and ejection of servers.
        health: Health = Health::default(),
        /// Retries of a request on another server.
        retries: Retries = Retries::default(),
        /// Limits: requests and connections beyond them are refused.
        limits: Limits = Limits::default(),
        /// Timeouts.
        timeouts: Timeouts = Timeouts::default(),
        /// The access log: a line for each request.
        #[schemars(extend("x-set-by-tercet" = "tercet sends it to the part's log"))]
        access_log: AccessLog = AccessLog::default(),
        /// The admin socket and the metrics endpoint.
        #[schemars(extend("x-set-by-tercet" = "tercet gives each part an admin address of its own"))]
        admin: Admin = Admin::default(),
        /// Traces of requests for an OpenTelemetry collector (OTLP, protobuf over HTTP).
        #[schemars(extend("x-set-by-tercet" = "otlp in [monitoring] is for all tiers"))]
        otlp: Otlp = Otlp::default(),
    }
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Listen {
    /// The bind address, `IP:PORT`. Required in a table.
    #[schemars(with = "String", extend("format" = "address", "examples" = ["0.0.0.0:443"]))]
    pub address: SocketAddr,
    /// The certificates. With at least one, the listener speaks TLS 1.2 and 1.3, and HTTP/2 to clients that select it by
    /// ALPN. Without, it speaks HTTP/1.1, and HTTP/2 with prior knowledge.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// Whether the listener speaks TLS with the certificates of `domains`. A listener with `certificates` has those, too.
    #[serde(default)]
    pub tls: bool,
    /// Whether every connection starts with a PROXY protocol header (version 1 or 2). A connection without one is closed,
    /// so only the proxy in front may be able to connect.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Whether requests are answered by a permanent redirect (308) to the same URL with https.
    #[serde(default)]
    pub redirect_to_https: bool,
    /// How long browsers use only https for the host name (`strict-transport-security`). Default: the header is not sent.
    #[serde(default)]
    pub hsts: Option<Duration>,
}

/// A certificate and its private key. The files are read again when they change; the host names are those in the certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Certificate {
    /// The PEM file with the certificate chain, the server's certificate first. Required.
    pub certificate: PathBuf,
    /// The PEM file with the private key. Required.
    pub key: PathBuf,
}

/// A server that requests are sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Server {
    /// The server's name in logs, metrics and the admin socket. Default: its address.
    #[serde(default)]
    #[schemars(extend("format" = "server name", "default" = null))]
    pub name: String,
    /// The server's address: `IP:PORT`, `NAME:PORT`, or the path of its Unix socket, `unix:PATH`. Required in a table.
    #[schemars(
        with = "String",
        extend("format" = "server address", "examples" = ["10.0.0.11:8080", "unix:/run/shop/http.sock"])
    )]
    pub address: ServerAddress,
    /// Whether the server gets requests only while no other server is up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backup: bool,
    /// The address that health checks connect to, `IP:PORT`, for a server with a separate port for them. Default: the
    /// server's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "address"))]
    pub health_address: Option<SocketAddr>,
    /// The server's share of requests relative to the other servers.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 256))]
    pub weight: u16,
    /// The server's connection limit: requests in flight at the same time; more wait in the queue. 0: no limit.
    #[serde(default)]
    pub max_connections: u32,
    /// Requests that may share a connection, sent one after another without waiting for responses (pipelining): safe ones
    /// without a body, and only while responses come at once. It saves writes when the balancer is busy, for a server that
    /// answers quickly and follows RFC 9112 exactly. 1: no pipelining.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub pipeline: u16,
}

const fn one() -> u16 {
    1
}

/// A balancing policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Strict round-robin: one order for all connections and threads.
    #[default]
    RoundRobin,
    /// The server with the fewest requests in flight for its weight.
    LeastConnections,
    /// The less busy of two servers selected at random.
    RandomTwo,
    /// The same server for the same `hash-on`, while it is healthy.
    Hash,
}

/// The input of the `hash` policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "String", extend("format" = "client or header name"))]
pub enum HashOn {
    /// The client's address.
    Client,
    /// The value of this header; the client's address for requests without it.
    Header(String),
}

options! {
    /// Health checks and ejection of servers.
    pub struct Health {
        /// The path of health checks: a response with a status below 500 passes, 500 or more takes the server out at once.
        /// Default: a check passes when the server accepts a connection; a server that has requests and sends nothing gets
        /// `OPTIONS *`, to which any response passes.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(extend("format" = "path", "x-set-by-tercet" = "health in [application] is the path of your own program"))]
        path: Option<String> = None,
        /// The time from the start of one check to the start of the next.
        interval: Timeout = Timeout::seconds(1),
        /// How long a check may take, connecting included.
        timeout: Timeout = Timeout::seconds(2),
        /// Consecutive checks that must pass before a server that was down gets requests.
        rise: NonZeroU32 = times(2),
        /// Consecutive checks that must fail (connection refused, timed out, no HTTP response) before a server gets no new
        /// requests while other servers are up. A late response is no failure while the server answers requests. While
        /// requests wait for the server it is no failure either, but new requests go to other servers until it responds.
        fall: NonZeroU32 = times(3),
        /// Consecutive requests that must fail (connection refused, timed out, closed without a response) before a server is
        /// ejected without waiting for a check; the last server that is up is never ejected. The status of a response does
        /// not count.
        ejection_failures: NonZeroU32 = times(3),
        /// How long a server is ejected the first time. Each further time doubles it, until nothing failed for
        /// `ejection-time-max`. A server whose checks fail and then pass again gets requests at once.
        ejection_time: Timeout = Timeout::seconds(1),
        /// The longest time a server is ejected.
        ejection_time_max: Duration = Duration::seconds(60),
        /// How long a server that came back takes to reach its full share of requests. 0s: it has it at once.
        slow_start: Duration = Duration::seconds(5),
    }
}

const fn times(count: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(count - 1)
}

options! {
    /// Retries of a request on another server.
    pub struct Retries {
        /// The most retries of one request; 0: none. A request that a server may have seen is retried only when its method
        /// is idempotent; a POST is never sent twice.
        attempts: u32 = 2,
        /// The retry budget of a backend pool: retries in flight for every 100 requests in flight, so that an outage is not
        /// multiplied.
        #[schemars(range(max = 100))]
        budget_percent: u32 = 20,
        /// The smallest retry budget: so many retries may be in flight even where `budget-percent` allows fewer.
        budget_minimum: u32 = 3,
    }
}

options! {
    /// Limits: requests and connections beyond them are refused.
    pub struct Limits {
        /// Size of a request's head; beyond: 431.
        #[schemars(extend("x-minimum" = "1KiB", "x-maximum" = "1MiB"))]
        head: Size = Size(32 << 10),
        /// Header lines of a message; beyond: 431.
        #[schemars(range(min = 1, max = 1000))]
        headers: usize = 100,
        /// Length of a request's target, at most `limits.head`; beyond: 414.
        #[schemars(extend("x-minimum" = "1B", "x-maximum" = "1MiB"))]
        target: Size = Size(8 << 10),
        /// Size of a request's body; beyond: 413.
        body: Size = Size(64 << 20),
        /// Size of a response's head; beyond: the client gets a 502.
        #[schemars(extend("x-minimum" = "1KiB", "x-maximum" = "1MiB"))]
        response_head: Size = Size(64 << 10),
        /// Client connections open at the same time; beyond: new ones wait in the kernel until one closes. 0: no limit.
        connections: usize = 65_536,
        /// Connections of one client (an IPv4 address, or an IPv6 /64) open at the same time; beyond: new ones are closed.
        /// 0: no limit.
        connections_per_client: usize = 16_384,
        /// Requests per second of one client (an IPv4 address, or an IPv6 /64) on average; beyond: 429. 0: no limit.
        requests_per_second: u32 = 0,
        /// Requests that a client may be ahead of its average.
        request_burst: u32 = 100,
        /// Requests in the queue of a backend pool: they wait while all of its servers are at their `max-connections`; beyond: 503.
        queue: usize = 1024,
        /// Concurrent streams (requests) of an HTTP/2 connection.
        #[schemars(range(min = 1, max = 10_000))]
        http2_streams: u32 = 128,
    }
}

options! {
    /// Timeouts.
    pub struct Timeouts {
        /// For a client's TLS handshake and PROXY protocol header; then the connection is closed.
        handshake: Timeout = Timeout::seconds(10),
        /// For a whole request head, from its first byte (or the connection's start); then 408.
        head: Timeout = Timeout::seconds(10),
        /// For the next bytes of a request's body; then 408.
        body: Timeout = Timeout::seconds(30),
        /// For a client to read the next bytes of its response; then the connection is closed.
        send: Timeout = Timeout::seconds(30),
        /// For the next request on an idle client connection; then it is closed.
        idle: Timeout = Timeout::seconds(75),
        /// For a connection to a server; then the next server is tried.
        connect: Timeout = Timeout::seconds(2),
        /// For a server to read the next bytes of a request, and then to start its response; then 504.
        response: Timeout = Timeout::seconds(60),
        /// For the next bytes of a response's body; then the connection is closed. Server-sent events must come at least
        /// this often.
        response_body: Timeout = Timeout::seconds(60),
        /// For the next bytes in either direction after an upgrade (WebSocket); then the connection is closed.
        upgrade: Timeout = Timeout::seconds(3600),
        /// For the next request on an idle connection to a server; then it is closed. Shorter than the servers' idle
        /// timeout, so that no request is sent on a connection that the server is closing.
        server_idle: Timeout = Timeout::seconds(4),
        /// For a server, in the queue; then 503.
        queue: Timeout = Timeout::seconds(5),
    }
}

options! {
    /// The access log: a line for each request.
    #[derive(Eq)]
    pub struct AccessLog {
        /// The destination: `"stdout"`, `"off"`, or the path of a file, which is reopened on SIGUSR1.
        to: AccessLogTo = AccessLogTo::Stdout,
        /// The format of a line.
        format: AccessLogFormat = AccessLogFormat::Combined,
    }
}

/// The destination of the access log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "PathBuf", into = "PathBuf")]
#[schemars(with = "String")]
pub enum AccessLogTo {
    /// Standard output.
    Stdout,
    /// No access log.
    Off,
    /// This file.
    File(PathBuf),
}

/// The format of a line of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AccessLogFormat {
    /// The combined log format, followed by server, server seconds, seconds and request id.
    Combined,
    /// A JSON object.
    Json,
}

options! {
    /// The admin socket and the metrics endpoint.
    #[derive(Eq)]
    pub struct Admin {
        /// The path of the admin socket, a Unix socket for draining, reloading, and showing servers and recent requests;
        /// only its owner has access. Default: none.
        socket: Option<PathBuf> = None,
        /// The address of `/live`, `/ready` and `/metrics` (Prometheus), `IP:PORT`; it must not be reachable for clients.
        /// Default: none.
        #[schemars(with = "Option<String>", extend("format" = "address"))]
        metrics: Option<SocketAddr> = None,
    }
}

impl Listen {
    /// A plain HTTP listener on this address.
    pub fn on(address: SocketAddr) -> Self {
        Self {
            address,
            certificates: Vec::new(),
            tls: false,
            proxy_protocol: false,
            redirect_to_https: false,
            hsts: None,
        }
    }

    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.tls || !self.certificates.is_empty()
    }
}

impl Server {
    /// A server of this name at this address, with weight 1 and no limit.
    pub fn new(name: impl Into<String>, address: impl Into<ServerAddress>) -> Self {
        Self {
            name: name.into(),
            address: address.into(),
            backup: false,
            health_address: None,
            weight: 1,
            max_connections: 0,
            pipeline: 1,
        }
    }
}

impl Config {
    /// Reads the text of a configuration file; `file` is its name in mistakes.
    ///
    /// # Errors
    /// All mistakes of the text.
    pub fn parse(text: &str, file: &str) -> Result<Self, Mistakes> {
        Self::parse_with(text, file, |_, _| {})
    }

    /// As [`parse`](Self::parse), with one more check, which may complete the configuration.
    ///
    /// # Errors
    /// All mistakes of the text, and those that `check` adds.
    pub fn parse_with(
        text: &str,
        file: &str,
        check: impl FnOnce(&mut Self, &mut Section<'_>),
    ) -> Result<Self, Mistakes> {
        let (mut config, mut mistakes, spans) =
            document::read::<Self>(text, file, &schema::of_tier::<Self>());
        if let Some(config) = &mut config {
            let mut section = Section { mistakes: &mut mistakes, spans: &spans, path: "" };
            config.check(&mut section);
            config.check_tls(&mut section);
            config.check_pools(&mut section);
            check(config, &mut section);
        }
        config.filter(|_| mistakes.is_empty()).ok_or(mistakes)
    }
}
