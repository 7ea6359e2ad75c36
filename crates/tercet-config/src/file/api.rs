//! The `[api]` section: PostgREST's options by their own names.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Located;

/// The options of PostgREST that tercet decides itself, and what to write instead.
pub(crate) const RESERVED: [(&str, &str); 12] = [
    ("db-uri", "an existing database is named by url in [database]"),
    ("server-host", "clients reach the balancer: listen in [balancer]"),
    ("server-port", "the first server's port is port in [application]"),
    ("server-unix-socket", "clients reach the balancer: listen in [balancer]"),
    ("server-unix-socket-mode", "clients reach the balancer: listen in [balancer]"),
    ("admin-server-host", "tercet gives each server an admin address of its own"),
    ("admin-server-port", "tercet gives each server an admin address of its own"),
    ("admin-server-unix-socket", "tercet gives each server an admin address of its own"),
    ("admin-server-unix-socket-mode", "tercet gives each server an admin address of its own"),
    ("server-reuseport", "tercet gives each server a port of its own"),
    ("server-stop-timeout", "the balancer decides how long a stopping server has"),
    ("server-trace-header", "the request id is always in x-request-id"),
];

/// The built-in data API.
#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Api {
    /// Settings of your own.
    #[serde(default, skip_serializing_if = "App::is_empty")]
    app: App,
    /// How much an error tells the client about the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_error_verbosity: Option<ClientErrorVerbosity>,
    /// Whether requests may use `avg()`, `count()`, `max()`, `min()` and `sum()` in `select`. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_aggregates_enabled: Option<bool>,
    /// The role of requests without a token. Default: `anon`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["anon"]))]
    db_anon_role: Option<String>,
    /// The channel that tells servers to reload. Default: `pgrst`.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_channel: Option<String>,
    /// Whether servers listen to that channel. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_channel_enabled: Option<bool>,
    /// Whether options are also read from the database (`alter role authenticator set pgrst.…`). Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_config: Option<bool>,
    /// The schemas of functions and types that need no prefix; they are not exposed. Default: `public`.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_extra_search_path: Option<Names>,
    /// Settings of functions that are set before the function is called. Default: `statement_timeout`,
    /// `plan_filter.statement_cost_limit`, `default_transaction_isolation`.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_hoisted_tx_settings: Option<Names>,
    /// The most rows one answer may have. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_max_rows: Option<u32>,
    /// Whether clients may ask for a query's plan. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_plan_enabled: Option<bool>,
    /// The most connections one server keeps to PostgreSQL. Default: 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    db_pool: Option<u32>,
    /// How long a request waits for a connection, in seconds. Default: 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_pool_acquisition_timeout: Option<u32>,
    /// Whether lost connections are made again by themselves. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_pool_automatic_recovery: Option<bool>,
    /// How long an unused connection is kept, in seconds; one stays for each thread. Default: 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_pool_max_idletime: Option<u32>,
    /// How long any connection is kept, in seconds. Default: 1800.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_pool_max_lifetime: Option<u32>,
    /// A function that reads options from the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_pre_config: Option<String>,
    /// A function called before each request, to check or to prepare.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_pre_request: Option<String>,
    /// Whether statements are prepared once per connection. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_prepared_statements: Option<bool>,
    /// A function that answers `/` in place of the description.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_root_spec: Option<String>,
    /// The schemas whose tables, views and functions are exposed. Default: `public`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = [["public"]]))]
    db_schemas: Option<Names>,
    /// How long a statement may take, in seconds. Default: 30; 0: as long as it likes.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_statement_timeout: Option<u32>,
    /// Whether `Prefer: timezone=…` is obeyed. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_timezone_enabled: Option<bool>,
    /// How a request's transaction ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    db_tx_end: Option<TransactionEnd>,
    /// The audience a token must be for.
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt_aud: Option<String>,
    /// The most verified tokens kept in memory; 0 keeps none. Default: 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt_cache_max_entries: Option<u32>,
    /// Where a token says its role, as a JSON path. Default: `.role`.
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt_role_claim_key: Option<String>,
    /// What tokens are verified with: a secret of at least 32 characters, or a JWK or JWK set. A leading `@`
    /// names a file that holds it, relative to `tercet.toml`. Without it every request is anonymous.
    #[serde(skip_serializing)]
    #[schemars(extend("writeOnly" = true, "examples" = ["@secrets/jwt"]))]
    pub(crate) jwt_secret: Option<Located<String>>,
    /// Whether the secret is written in base64. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt_secret_is_base64: Option<bool>,
    /// How much the servers log.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_level: Option<LogLevel>,
    /// Whether the SQL of each request is logged. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    log_query: Option<bool>,
    /// What the description at `/` and `/openapi.json` shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    openapi_mode: Option<OpenapiMode>,
    /// Whether the description mentions the `Authorization` header. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    openapi_security_active: Option<bool>,
    /// The address the description gives for the API, when a proxy stands before the balancer.
    #[serde(skip_serializing_if = "Option::is_none")]
    openapi_server_proxy_uri: Option<String>,
    /// The title of the description, where the schema has no comment. Default: the project's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["Bookshop"]))]
    openapi_title: Option<String>,
    /// The version of the API that the description names. Default: `1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("examples" = ["2.1.0"]))]
    openapi_version: Option<String>,
    /// How many seconds the body of a request may take to arrive; then it is refused (408). Default: 60.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_body_timeout: Option<u32>,
    /// The origins whose pages may call the API. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_cors_allowed_origins: Option<Names>,
    /// The most bytes the body of a request may have. Default: 64 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_max_body: Option<u32>,
    /// The most bytes of bodies that a server holds at once, of all requests together; the requests beyond that are told
    /// to come again later (503). Default: 256 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_max_body_memory: Option<u64>,
    /// How many threads a server has. Default: one for each core.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    server_threads: Option<u16>,
    /// Whether answers say how long each stage took. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    server_timing_enabled: Option<bool>,
}

/// The `app` table.
#[derive(Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct App {
    /// Settings of your own, one text each: SQL reads them with `current_setting('app.settings.NAME')`.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    settings: BTreeMap<String, String>,
}

impl App {
    fn is_empty(&self) -> bool {
        self.settings.is_empty()
    }
}

/// A list of names, or PostgREST's way of writing it: one text with commas.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Names {
    /// `"public, extensions"`.
    Joined(String),
    /// `["public", "extensions"]`.
    List(Vec<String>),
}

impl Serialize for Names {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Joined(names) => serializer.serialize_str(names),
            Self::List(names) => serializer.serialize_str(&names.join(",")),
        }
    }
}

/// How much an error tells the client about the database.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
enum ClientErrorVerbosity {
    /// Everything. The default.
    Verbose,
    /// The code only.
    Minimal,
}

/// How a request's transaction ends.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
enum TransactionEnd {
    /// It is kept. The default.
    Commit,
    /// It is kept, unless the request says `Prefer: tx=rollback`.
    CommitAllowOverride,
    /// It is undone.
    Rollback,
    /// It is undone, unless the request says `Prefer: tx=commit`.
    RollbackAllowOverride,
}

/// How much the servers log.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
enum LogLevel {
    /// Only what keeps the server from working.
    Crit,
    /// Also requests that failed on the server's side. The default.
    Error,
    /// Also requests that the client got wrong.
    Warn,
    /// All requests.
    Info,
    /// All requests, and what the server does between them.
    Debug,
}

/// What the description shows.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
enum OpenapiMode {
    /// What the asking role may use. The default.
    FollowPrivileges,
    /// Everything.
    IgnorePrivileges,
    /// Nothing: there is no description.
    Disabled,
}
