//! The `[balancer]` section: where clients connect, and the balancer's own options by their own names.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Located;
use super::quantity::{Duration, Size};

/// Tier 1: where clients connect.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Balancer {
    /// The addresses to listen on, each `IP:PORT`. Default: `["127.0.0.1:8080"]`; with `[[machine]]`s
    /// `["0.0.0.0:80", "[::]:80"]`.
    #[schemars(extend("examples" = [["0.0.0.0:8080"]]))]
    pub(crate) listen: Option<Located<Vec<Located<String>>>>,
    /// Certificates with their keys, for TLS: `[{ certificate = "tls/shop.crt", key = "tls/shop.key" }]`. Which one a
    /// client gets is decided by the name it asks for. Default: none, and no TLS.
    #[serde(default)]
    pub(crate) certificates: Vec<Located<Certificate>>,
    /// The addresses to speak TLS on, besides those of `listen`, each `IP:PORT`. Only with `certificates`. Default:
    /// `["127.0.0.1:8443"]`; with `[[machine]]`s `["0.0.0.0:443", "[::]:443"]`.
    #[schemars(extend("examples" = [["0.0.0.0:8443"]]))]
    pub(crate) tls_listen: Option<Located<Vec<Located<String>>>>,
    /// Whether requests to the addresses of `listen` are answered by a permanent redirect (308) to the same URL with
    /// https, at port 443. Only with `certificates`. Default: true with `[[machine]]`s, else false.
    pub(crate) redirect_to_https: Option<Located<bool>>,
    /// For how long browsers that came by https shall use nothing else for this name (`strict-transport-security`).
    /// Only with `certificates`. Default: not said.
    #[schemars(extend("examples" = ["365d"]))]
    pub(crate) hsts: Option<Located<Duration>>,
    /// Which server gets the next request.
    #[serde(default)]
    #[schemars(extend("default" = "round-robin"))]
    pub(crate) policy: Located<Policy>,
    /// What a request is hashed by when `policy = "hash"`: `"client"` (its address) or a header's name. Default:
    /// `client`.
    #[schemars(extend("examples" = ["authorization"]))]
    pub(crate) hash_on: Option<Located<String>>,
    /// Networks of proxies in front of the balancer, whose `forwarded`, `x-forwarded-…`, `x-request-id` and
    /// `traceparent` are believed and added to. From everybody else they are replaced. Default: none.
    #[schemars(extend("examples" = [["10.0.0.0/8"]]))]
    pub(crate) trusted_proxies: Option<Vec<Located<String>>>,
    /// How it is found out whether a server lives.
    #[serde(default)]
    pub(crate) health: Health,
    /// When a request is tried on another server.
    #[serde(default)]
    pub(crate) retries: Retries,
    /// How much is taken before it is refused.
    #[serde(default)]
    pub(crate) limits: Limits,
    /// How long is waited.
    #[serde(default)]
    pub(crate) timeouts: Timeouts,
}

/// A certificate and its key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Certificate {
    /// The PEM file with the certificate and those up to its authority, relative to `tercet.toml`.
    pub(crate) certificate: Option<Located<String>>,
    /// The PEM file with the private key, relative to `tercet.toml`.
    pub(crate) key: Option<Located<String>>,
}

/// Which server gets the next request.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Policy {
    /// Strictly in turn, whichever thread or connection a request came by.
    #[default]
    RoundRobin,
    /// The server with the fewest requests in hand.
    LeastConnections,
    /// The less busy of two picked at random.
    RandomTwo,
    /// The same client always to the same server, as long as that one is healthy.
    Hash,
}

/// How it is found out whether a server lives.
#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Health {
    /// From the start of one check to the start of the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "1s"))]
    interval: Option<Duration>,
    /// How long a check may take, connecting included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "2s"))]
    timeout: Option<Duration>,
    /// Checks in a row that must pass before a server that was down gets requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("default" = 2))]
    rise: Option<u32>,
    /// Checks in a row that must fail before a server gets no more requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("default" = 3))]
    fall: Option<u32>,
    /// Requests in a row that must fail before a server is ejected without waiting for a check; the last live server
    /// never is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("default" = 3))]
    ejection_failures: Option<u32>,
    /// How long a server is ejected the first time; each further time doubles it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "1s"))]
    ejection_time: Option<Duration>,
    /// The longest a server is ejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "1m"))]
    ejection_time_max: Option<Duration>,
    /// How long a server that came back takes to get its whole share of requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "5s"))]
    slow_start: Option<Duration>,
}

/// When a request is tried on another server.
#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Retries {
    /// How often a request is tried again at most; 0: never. What a server may have seen is tried again only when
    /// its method is idempotent; a POST is never sent twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 2))]
    attempts: Option<u32>,
    /// Retries that may be under way for every 100 requests in flight, so that an outage is not multiplied.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 100), extend("default" = 20))]
    budget_percent: Option<u32>,
    /// Retries that may be under way whatever the budget says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 3))]
    budget_minimum: Option<u32>,
}

/// How much is taken before it is refused.
#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Limits {
    /// Size of a request's head, 1KiB to 1MiB; beyond: 431.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "32KiB"))]
    head: Option<Size>,
    /// Header lines of a message; beyond: 431.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000), extend("default" = 100))]
    headers: Option<u32>,
    /// Length of a request's target; beyond: 414.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "8KiB"))]
    target: Option<Size>,
    /// Size of a request's body; beyond: 413.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "64MiB"))]
    body: Option<Size>,
    /// Size of a response's head, 1KiB to 1MiB; beyond: the client gets a 502.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "64KiB"))]
    response_head: Option<Size>,
    /// Client connections open at the same time; beyond: new ones wait until one closes. 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 65_536))]
    connections: Option<u32>,
    /// Connections of one client (an IPv4 address, or an IPv6 /64) open at the same time; beyond: new ones are closed.
    /// 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 16_384))]
    connections_per_client: Option<u32>,
    /// Requests a second of one client on average; beyond: 429. 0: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 0))]
    requests_per_second: Option<u32>,
    /// Requests a client may be ahead of its average.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1), extend("default" = 100))]
    request_burst: Option<u32>,
    /// Requests that wait for a server while all are as busy as they may be; beyond: 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = 1024))]
    queue: Option<u32>,
    /// Requests one HTTP/2 connection may have under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000), extend("default" = 128))]
    http2_streams: Option<u32>,
}

/// How long is waited.
#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Timeouts {
    /// For a client's TLS handshake and PROXY protocol header; then the connection is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "10s"))]
    handshake: Option<Duration>,
    /// For a whole request head; then 408.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "10s"))]
    head: Option<Duration>,
    /// For more of a request's body; then 408.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "30s"))]
    body: Option<Duration>,
    /// For a client to take more of its response; then the connection is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "30s"))]
    send: Option<Duration>,
    /// For the next request on a connection kept alive; then it is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "75s"))]
    idle: Option<Duration>,
    /// For a connection to a server; then the next server is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "2s"))]
    connect: Option<Duration>,
    /// For a server to take more of a request, and then to begin its response; then 504.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "1m"))]
    response: Option<Duration>,
    /// For more of a response's body; then the connection is closed. Server-sent events must come at least this often.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "1m"))]
    response_body: Option<Duration>,
    /// For traffic in either direction after an upgrade (WebSocket); then the connection is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "1h"))]
    upgrade: Option<Duration>,
    /// For the next request on a connection to a server; then it is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "4s"))]
    server_idle: Option<Duration>,
    /// For a place at a server, in the queue; then 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "5s"))]
    queue: Option<Duration>,
}
