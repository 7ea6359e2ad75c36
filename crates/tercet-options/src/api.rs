//! The options of the data API: PostgREST's by PostgREST's names, and tercet's own. They are those of `tercet api --config
//! FILE`, of the environment (`PGRST_…`), of the database (`pgrst.…`) and of `[api]` in `tercet.toml`.
//!
//! Beside the keywords of [`schema`] the options here may have: `x-in-database`, the database may set it;
//! `x-aliases`, PostgREST's older names of it; `x-words`, other words for a value. The last two are of PostgREST's syntax, not
//! of `tercet.toml`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::document::Section;
use crate::file_mode::FileMode;
use crate::list::List;
use crate::otlp::Otlp;
use crate::quantity::{Duration, Seconds};
use crate::schema;
use crate::secret::Secret;
use crate::share::Share;

options! {
    /// The options of the data API. The keys and their meaning are PostgREST's, except those that are tercet's own.
    pub struct Options {
        /// The bind address of the admin endpoint: `/live`, `/ready`, `/metrics`, `/config`, `/schema_cache`. Default:
        /// `server-host`.
        #[schemars(extend("x-set-by-tercet" = ADMIN, "examples" = ["127.0.0.1"]))]
        admin_server_host: Option<String> = None,
        /// The port of the admin endpoint. Default: there is no admin endpoint.
        #[schemars(extend("x-set-by-tercet" = ADMIN, "examples" = [3001]))]
        admin_server_port: Option<u16> = None,
        /// The path of a Unix socket for the admin endpoint, instead of the port.
        #[schemars(extend("x-set-by-tercet" = ADMIN, "examples" = ["/run/tercet/admin.sock"]))]
        admin_server_unix_socket: Option<PathBuf> = None,
        /// The permission bits of that socket, in octal.
        #[schemars(extend("x-set-by-tercet" = ADMIN))]
        admin_server_unix_socket_mode: FileMode = FileMode(0o660),
        /// Settings for your own functions.
        app: App = App::default(),
        /// The details that an error tells the client about the database.
        #[schemars(extend("x-in-database" = true))]
        client_error_verbosity: Verbosity = Verbosity::Verbose,
        /// Whether requests may use `avg()`, `count()`, `max()`, `min()` and `sum()` in `select`.
        #[schemars(extend("x-in-database" = true))]
        db_aggregates_enabled: bool = false,
        /// The role of requests without a token; without one they are refused. The default in `tercet.toml` is `anon`.
        #[schemars(extend("x-in-database" = true, "examples" = ["anon"]))]
        db_anon_role: Option<Arc<str>> = None,
        /// The notification channel on which `NOTIFY pgrst, 'reload schema'` reloads the schema cache.
        db_channel: String = "pgrst".to_owned(),
        /// Whether servers listen on that channel.
        db_channel_enabled: bool = true,
        /// Whether options are also read from the database: `ALTER ROLE authenticator SET pgrst.NAME`, and `db-pre-config`.
        db_config: bool = true,
        /// The schemas of functions and types that need no prefix in SQL; they are not exposed.
        #[schemars(extend("x-in-database" = true))]
        db_extra_search_path: List = List::of(&["public"]),
        /// The settings of functions (`SET` in their definition) that hold for the whole transaction.
        #[schemars(extend("x-in-database" = true))]
        db_hoisted_tx_settings: List =
            List::of(&["statement_timeout", "plan_filter.statement_cost_limit", "default_transaction_isolation"]),
        /// The most rows of a read, at the top and in each embedding. Default: no limit.
        #[schemars(extend("x-in-database" = true, "x-aliases" = ["max-rows"], "examples" = [1000]))]
        db_max_rows: Option<u64> = None,
        /// Whether clients may request the execution plan of a query.
        #[schemars(extend("x-in-database" = true))]
        db_plan_enabled: bool = false,
        /// The most connections to PostgreSQL of one server.
        #[schemars(range(min = 1, max = 1000))]
        db_pool: usize = 10,
        /// The seconds that a request waits for a connection, or for the first load of the schema cache.
        db_pool_acquisition_timeout: Seconds = Seconds::new(10),
        /// Whether a server reconnects to a lost database; with false it exits.
        db_pool_automatic_recovery: bool = true,
        /// The seconds after which an idle connection is closed; each thread keeps one.
        #[schemars(extend("x-aliases" = ["db-pool-timeout"]))]
        db_pool_max_idletime: Seconds = Seconds::new(30),
        /// The seconds after which any connection is replaced.
        db_pool_max_lifetime: Seconds = Seconds::new(1800),
        /// A function that sets options: `select set_config('pgrst.db_schemas', 'api', true)`.
        #[schemars(extend("x-in-database" = true, "examples" = ["private.configure"]))]
        db_pre_config: Option<String> = None,
        /// A function that is called at the start of each transaction, to check the request or to prepare.
        #[schemars(extend("x-in-database" = true, "x-aliases" = ["pre-request"], "examples" = ["private.check"]))]
        db_pre_request: Option<String> = None,
        /// Whether statements are prepared once for each connection; false behind a pooler that shares connections between
        /// transactions.
        #[schemars(extend("x-in-database" = true))]
        db_prepared_statements: bool = true,
        /// A function whose result is the response at `/`, instead of the description.
        #[schemars(extend("x-in-database" = true, "x-aliases" = ["root-spec"], "examples" = ["root"]))]
        db_root_spec: Option<String> = None,
        /// The schemas whose tables, views and functions are exposed.
        #[schemars(extend("x-in-database" = true, "x-aliases" = ["db-schema"], "examples" = [["public"]]))]
        db_schemas: List = List::of(&["public"]),
        /// tercet's own: the `statement_timeout` in seconds of requests whose role has none. 0: none.
        #[schemars(extend("x-in-database" = true))]
        db_statement_timeout: Seconds = Seconds::new(30),
        /// Whether `Prefer: timezone=…` is applied.
        #[schemars(extend("x-in-database" = true))]
        db_timezone_enabled: bool = true,
        /// How a request's transaction ends.
        #[schemars(extend("x-in-database" = true))]
        db_tx_end: TransactionEnd = TransactionEnd::Commit,
        /// The database: a URI, `keyword=value` pairs, or `@FILE`. Missing parts come from the service (`service=NAME` in
        /// pg_service.conf), then from the environment (`PGHOST`, …).
        #[schemars(extend(
            "x-set-by-tercet" = "an existing database is named by url in [database]",
            "default" = "postgresql://"
        ))]
        db_uri: Secret = Secret::new("postgresql://"),
        /// tercet's own: the file in which the keys of the identity provider are kept over a restart. Default: they are not kept.
        #[schemars(extend("x-set-by-tercet" = "the keys are kept in a private file", "examples" = ["/var/cache/api/keys.json"]))]
        jwks_cache_file: Option<PathBuf> = None,
        /// tercet's own: the URL of the JWK set of an identity provider. Its keys verify tokens beside `jwt-secret`, are fetched
        /// anew when they expire or none of them verifies a token. Default: what the metadata of `jwt-issuer` says.
        #[schemars(extend("x-in-database" = true, "examples" = ["https://id.example.com/keys.json"]))]
        jwks_url: Option<String> = None,
        /// The audience that a token must be for, if it names any.
        #[schemars(extend("x-in-database" = true, "examples" = ["shop"]))]
        jwt_aud: Option<String> = None,
        /// The most verified tokens in the cache. 0: no cache.
        #[schemars(extend("x-in-database" = true))]
        jwt_cache_max_entries: usize = 1000,
        /// tercet's own: the issuer whose tokens are accepted, an OpenID provider; their `iss` must be this text. Tokens that
        /// `jwt-secret` verifies need none.
        #[schemars(extend("x-in-database" = true, "examples" = ["https://id.example.com"]))]
        jwt_issuer: Option<String> = None,
        /// The claim with the role: a JSONPath like `$.app.roles[0]`, or the older `.app.roles[0]`. Default: `.role`.
        #[schemars(extend("x-in-database" = true, "x-aliases" = ["role-claim-key"], "examples" = [".role"]))]
        jwt_role_claim_key: Option<String> = None,
        /// The key that tokens are verified with: a secret of at least 32 characters, or a JWK or JWK set. A leading `@` names
        /// a file that holds it; in `tercet.toml` its path is relative to the project's folder. Default: none, and every
        /// request is anonymous.
        #[schemars(extend("x-in-database" = true, "examples" = ["@secrets/jwt"]))]
        jwt_secret: Option<Secret> = None,
        /// Whether the secret is written in base64.
        #[schemars(extend("x-in-database" = true, "x-aliases" = ["secret-is-base64"]))]
        jwt_secret_is_base64: bool = false,
        /// The requests and events that are logged.
        log_level: LogLevel = LogLevel::Error,
        /// tercet's own: requests that take at least this long are logged with their SQL, without its values. `0s`: none.
        #[schemars(extend("x-in-database" = true))]
        log_slow_requests: Duration = Duration::milliseconds(500),
        /// Whether the SQL of each request is logged.
        #[schemars(extend("x-in-database" = true, "x-words" = { "disabled": false, "main-query": true }))]
        log_query: bool = false,
        /// The tables, views and functions in the description at `/` and `/openapi.json`.
        #[schemars(extend("x-in-database" = true))]
        openapi_mode: OpenApiMode = OpenApiMode::FollowPrivileges,
        /// Whether the description says that operations need a token.
        #[schemars(extend("x-in-database" = true))]
        openapi_security_active: bool = false,
        /// The URL of the API in the description, when a proxy in front changes the path or the scheme.
        #[schemars(extend("x-in-database" = true, "format" = "proxy uri", "examples" = ["https://example.com/api"]))]
        openapi_server_proxy_uri: Option<String> = None,
        /// tercet's own: the title of the description, where the schema has no comment. The default in `tercet.toml` is the
        /// project's name.
        #[schemars(extend("examples" = ["Bookshop"]))]
        openapi_title: Option<String> = None,
        /// tercet's own: the version of the API in the description. Default: `1`.
        #[schemars(extend("examples" = ["2.1.0"]))]
        openapi_version: Option<String> = None,
        /// tercet's own: the URL of an OpenTelemetry collector, which traces of requests are sent to (OTLP, protobuf over HTTP);
        /// `/v1/traces` is appended. It takes a restart to change. Default: no traces are sent.
        #[schemars(extend("x-set-by-tercet" = OTLP, "format" = "collector url", "examples" = ["http://127.0.0.1:4318"]))]
        otlp_endpoint: Option<String> = None,
        /// tercet's own: the share of requests that are traced, of those whose client does not decide it (`traceparent`).
        #[schemars(extend("x-set-by-tercet" = OTLP))]
        otlp_sample: Share = Otlp::default().sample,
        /// tercet's own: requests that take at least this long are always traced, and so are those that are answered with a status of
        /// 500 or more.
        #[schemars(extend("x-set-by-tercet" = OTLP))]
        otlp_slow: Duration = Otlp::default().slow,
        /// tercet's own: the seconds in which a request's body must arrive; then 408.
        server_body_timeout: Seconds = Seconds::new(60),
        /// The origins whose pages may call the API (CORS). Default: all.
        #[schemars(extend("x-in-database" = true, "examples" = [["https://shop.example"]]))]
        server_cors_allowed_origins: Option<List> = None,
        /// The bind address: an IP address or a host name; `*` is every address, `!4` every IPv4 address, `!6` every IPv6
        /// address.
        #[schemars(extend("x-set-by-tercet" = LISTEN))]
        server_host: String = "!4".to_owned(),
        /// tercet's own: the most bytes of a request's body; beyond: 413.
        server_max_body: usize = 64 << 20,
        /// tercet's own: the most bytes of all bodies that a server holds at once; requests beyond get 503.
        server_max_body_memory: usize = 256 << 20,
        /// Whether OpenTelemetry is used; it is not implemented.
        #[schemars(extend("x-set-by-tercet" = "it is not implemented"))]
        server_otel_enabled: bool = false,
        /// The port.
        #[schemars(extend("x-set-by-tercet" = "the first server's port is port in [application]"))]
        server_port: u16 = 3000,
        /// Whether several processes may listen on the port (SO_REUSEPORT).
        #[schemars(extend("x-set-by-tercet" = "tercet gives each server a port of its own"))]
        server_reuseport: bool = false,
        /// tercet's own: whether responses have the durations of their stages in `x-tercet-stages`, which tercet's balancer logs
        /// and removes.
        #[schemars(extend("x-set-by-tercet" = "it is on behind tercet's balancer"))]
        server_stages_header: bool = false,
        /// tercet's own: the seconds that requests in flight may take to finish when the server stops.
        #[schemars(extend("x-set-by-tercet" = "the balancer decides how long a stopping server has"))]
        server_stop_timeout: Seconds = Seconds::new(30),
        /// tercet's own: the number of threads that serve requests. Default: one per core.
        #[schemars(range(min = 1, max = 1024), extend("examples" = [2]))]
        server_threads: Option<usize> = None,
        /// Whether responses have the duration of each stage in `server-timing`.
        #[schemars(extend("x-in-database" = true))]
        server_timing_enabled: bool = false,
        /// The path of a Unix socket to listen on besides the port, for a balancer on the same machine.
        #[schemars(extend("x-set-by-tercet" = LISTEN, "examples" = ["/run/tercet/balancer.sock"]))]
        server_local_socket: Option<PathBuf> = None,
        /// The name of a request header that is copied to the response, such as a trace id.
        #[schemars(extend(
            "x-in-database" = true,
            "x-set-by-tercet" = "the request id is always in x-request-id",
            "format" = "header name",
            "examples" = ["X-Request-Id"]
        ))]
        server_trace_header: Option<String> = None,
        /// The path of a Unix socket to listen on, instead of the port.
        #[schemars(extend("x-set-by-tercet" = LISTEN, "examples" = ["/run/tercet/api.sock"]))]
        server_unix_socket: Option<PathBuf> = None,
        /// The permission bits of the Unix sockets for requests, in octal.
        #[schemars(extend("x-set-by-tercet" = LISTEN))]
        server_unix_socket_mode: FileMode = FileMode(0o660),
        /// Whether a filter may name an embedding that has an alias by its relation.
        #[schemars(extend("x-in-database" = true, "x-set-by-tercet" = "it is an option of `tercet api` alone"))]
        url_use_legacy_target_names: bool = true,
    }
}

/// The hint for options of the admin endpoint.
const ADMIN: &str = "tercet gives each server an admin address of its own";
/// The hint for options of traces.
const OTLP: &str = "otlp in [monitoring] is for all tiers";
/// The hint for options of the listener.
const LISTEN: &str = "clients reach the balancer: listen in [balancer]";

options! {
    /// Settings for your own functions.
    pub struct App {
        /// Settings that SQL reads with `current_setting('app.settings.NAME')`.
        #[schemars(extend("writeOnly" = true, "examples" = [{ "currency": "EUR" }]))]
        settings: BTreeMap<String, Secret> = BTreeMap::new(),
    }
}

/// The details that an error tells the client about the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verbosity {
    /// Code, message, details and hint.
    Verbose,
    /// Code and message.
    Minimal,
}

/// How a request's transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TransactionEnd {
    /// By COMMIT.
    Commit,
    /// By COMMIT, unless the request says `Prefer: tx=rollback`.
    CommitAllowOverride,
    /// By ROLLBACK.
    Rollback,
    /// By ROLLBACK, unless the request says `Prefer: tx=commit`.
    RollbackAllowOverride,
}

impl TransactionEnd {
    /// Whether it is rolled back when the request does not say otherwise.
    pub fn rolls_back(self) -> bool {
        matches!(self, Self::Rollback | Self::RollbackAllowOverride)
    }

    /// Whether a request may override it.
    pub fn allows_override(self) -> bool {
        matches!(self, Self::CommitAllowOverride | Self::RollbackAllowOverride)
    }
}

/// The requests and events that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Only errors that end the process.
    #[serde(rename = "crit")]
    Critical,
    /// Also requests with a status of 500 or more.
    Error,
    /// Also requests with a status of 400 or more.
    Warn,
    /// All requests and events.
    Info,
    /// All requests and events, in detail.
    Debug,
}

/// The tables, views and functions in the description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OpenApiMode {
    /// Those on which the request's role has privileges.
    FollowPrivileges,
    /// All that are exposed.
    IgnorePrivileges,
    /// None: there is no description.
    Disabled,
}

/// The rules of the data API's own file, of the environment and of the database.
pub fn rules() -> &'static Json {
    static RULES: OnceLock<Json> = OnceLock::new();
    RULES.get_or_init(schema::of_tier::<Options>)
}

impl Options {
    /// The options of traces.
    pub fn otlp(&self) -> Otlp {
        Otlp { endpoint: self.otlp_endpoint.clone(), sample: self.otlp_sample, slow: self.otlp_slow }
    }

    /// Reports every contradiction, and the values that no format excludes. `section` is the table in which these options are
    /// written.
    pub fn check(&self, section: &mut Section<'_>) {
        if self.admin_server_port == Some(self.server_port) && self.server_port != 0 {
            section
                .mistake("admin-server-port", "can't be the same as server-port", "the same")
                .hint("give the admin endpoint another port");
        }
        if self.admin_server_unix_socket.is_some() && self.admin_server_port.is_some() {
            section
                .mistake("admin-server-unix-socket", "can't be set beside admin-server-port", "and a port")
                .hint("leave one of them out");
        }
        for name in self.db_schemas.iter().filter(|name| is_system_schema(name)) {
            section
                .mistake("db-schemas", &format!("can't expose {name:?}"), "a system schema")
                .hint("expose views in a schema of your own");
        }
        // RFC 7519, section 2: a StringOrURI with a colon is a URI.
        let is_uri = |text: &str| !text.starts_with(':') && !text.contains(char::is_whitespace);
        if self.jwt_aud.as_ref().is_some_and(|audience| audience.contains(':') && !is_uri(audience)) {
            section
                .mistake("jwt-aud", "is neither a string without a colon nor a URI", "not a URI")
                .hint("write it like \"shop\" or \"https://shop.example\"");
        }
        for (name, url) in [("jwks-url", &self.jwks_url), ("jwt-issuer", &self.jwt_issuer)] {
            if url.as_ref().is_some_and(|url| !is_https(url)) {
                section.mistake(name, "is no URL that begins with https://", "not https").hint(
                    "write it like \"https://id.example.com\"; keys that arrive unencrypted prove nothing",
                );
            }
        }
        if self.server_otel_enabled {
            section.mistake("server-otel-enabled", "is not implemented", "true").hint("leave it out");
        }
    }
}

/// Whether a text is a URL of a host, by https, without a user, a query or a fragment that are not for keys.
fn is_https(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://") else { return false };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
    visible && !authority.is_empty() && !authority.contains('@') && !text.contains('#')
}

/// The port of a URL by https.
pub fn https_port(url: &str) -> u16 {
    url.parse::<http::Uri>().ok().and_then(|url| url.port_u16()).unwrap_or(443)
}

fn is_system_schema(name: &str) -> bool {
    matches!(name, "pg_catalog" | "information_schema")
}
