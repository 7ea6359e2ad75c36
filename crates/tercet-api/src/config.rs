//! What an operator may say about one data API: PostgREST's options by PostgREST's names, from a file, the
//! environment and the database (<https://docs.postgrest.org/en/latest/references/configuration.html>).
//!
//! The process environment is not read here: the command passes it in. Every mistake is reported at once,
//! and an option nobody knows is a mistake.

pub mod database;
mod dump;
mod options;
pub mod role_claim;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use rustc_hash::FxHashMap;
use tercet_postgres::{Target, quote};

use self::database::RoleSettings;
use self::options::Options;
use self::role_claim::RoleClaim;
use crate::error::Verbosity;
use crate::token_keys::Keys;

/// A configuration file in which every option stands with its default, explained.
pub const EXAMPLE: &str = include_str!("config/example.conf");

/// A function or type by name, with the schema when it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    /// The schema; `None` leaves it to the search path.
    pub schema: Option<String>,
    /// The name.
    pub name: String,
}

impl ObjectName {
    /// Reads `schema.name` or `name`; neither part is quoted.
    fn parse(text: &str) -> Self {
        match text.split_once('.') {
            Some((schema, name)) if !name.is_empty() => {
                Self { schema: Some(schema.to_owned()), name: name.to_owned() }
            }
            _ => Self { schema: None, name: text.to_owned() },
        }
    }

    /// As SQL, quoted.
    pub fn sql(&self) -> String {
        let name = quote::identifier(&self.name);
        match &self.schema {
            Some(schema) => format!("{}.{name}", quote::identifier(schema)),
            None => name,
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// `openapi-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenApiMode {
    /// Describes what the role may use.
    FollowPrivileges,
    /// Describes everything exposed.
    IgnorePrivileges,
    /// Describes nothing.
    Disabled,
}

/// `log-level`: which requests and events are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Only what ends the process.
    Critical,
    /// Requests answered 5xx as well.
    Error,
    /// Requests answered 4xx as well.
    Warn,
    /// Everything.
    Info,
    /// Everything, in detail.
    Debug,
}

/// `db-tx-end`: how transactions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionEnd {
    /// Whether they are rolled back when the request does not say otherwise.
    pub rollback: bool,
    /// Whether the request may say otherwise.
    pub allow_override: bool,
}

/// All options. Fields carry the options' names.
#[derive(Clone)]
#[expect(missing_docs, reason = "PostgREST's documentation says what each option means")]
pub struct Config {
    pub admin_server_host: String,
    pub admin_server_port: Option<u16>,
    pub admin_server_unix_socket: Option<PathBuf>,
    pub admin_server_unix_socket_mode: u32,
    /// `app.settings.*`, by full name.
    pub app_settings: BTreeMap<String, String>,
    pub client_error_verbosity: Verbosity,
    pub db_aggregates_enabled: bool,
    pub db_anon_role: Option<Arc<str>>,
    pub db_channel: String,
    pub db_channel_enabled: bool,
    pub db_config: bool,
    pub db_extra_search_path: Vec<String>,
    pub db_hoisted_tx_settings: Vec<String>,
    pub db_max_rows: Option<u64>,
    pub db_plan_enabled: bool,
    pub db_pool: usize,
    pub db_pool_acquisition_timeout: Duration,
    pub db_pool_automatic_recovery: bool,
    pub db_pool_max_idletime: Duration,
    pub db_pool_max_lifetime: Duration,
    pub db_pre_config: Option<ObjectName>,
    pub db_pre_request: Option<ObjectName>,
    pub db_prepared_statements: bool,
    pub db_root_spec: Option<ObjectName>,
    pub db_schemas: Vec<String>,
    /// tercet's own: the `statement_timeout` of requests whose role has none; zero is none.
    pub db_statement_timeout: Duration,
    pub db_timezone_enabled: bool,
    pub db_tx_end: TransactionEnd,
    pub db_uri: Arc<Target>,
    pub jwt_aud: Option<String>,
    pub jwt_cache_max_entries: usize,
    pub jwt_role_claim_key: RoleClaim,
    /// What `jwt-secret` holds.
    pub jwt_keys: Option<Arc<Keys>>,
    pub log_level: LogLevel,
    pub log_query: bool,
    pub openapi_mode: OpenApiMode,
    pub openapi_security_active: bool,
    pub openapi_server_proxy_uri: Option<String>,
    /// tercet's own: the title of the API's description, where the schema has no comment.
    pub openapi_title: Option<String>,
    /// tercet's own: the version of the API that its description names.
    pub openapi_version: Option<String>,
    pub server_cors_allowed_origins: Option<Vec<String>>,
    pub server_host: String,
    /// tercet's own: the most bytes a request's body may have.
    pub server_max_body: usize,
    /// tercet's own: the most bytes of all bodies that are held at once.
    pub server_max_body_memory: usize,
    /// tercet's own: how long the body of a request may take.
    pub server_body_timeout: Duration,
    pub server_port: u16,
    pub server_reuseport: bool,
    /// tercet's own: how long requests in flight may take to finish once the server is told to stop.
    pub server_stop_timeout: Duration,
    /// tercet's own: threads that serve requests; `None` is one per core.
    pub server_threads: Option<usize>,
    pub server_timing_enabled: bool,
    pub server_trace_header: Option<HeaderName>,
    pub server_unix_socket: Option<PathBuf>,
    pub server_unix_socket_mode: u32,
    pub url_use_legacy_target_names: bool,
    /// What each role a request may run as has set for itself, from the database.
    pub role_settings: FxHashMap<Arc<str>, RoleSettings>,
    /// The `statement_timeout` that the login role's sessions have, from the database; zero is none.
    pub session_statement_timeout: Duration,
    /// What is odd about the configuration and no reason to refuse it, for the log.
    pub warnings: Vec<String>,
}

/// A configuration that cannot be used: every mistake, each on its line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// Where a configuration comes from, kept to read it again.
#[derive(Clone, Debug, Default)]
pub struct ConfigSource {
    /// The file, in PostgREST's syntax, which is TOML.
    pub file: Option<PathBuf>,
    /// The process environment: `PGRST_…` options, libpq's `PG…` variables.
    pub environment: BTreeMap<String, String>,
}

impl ConfigSource {
    /// Reads everything but the database's own settings.
    ///
    /// # Errors
    /// A file cannot be read, or options are unknown, malformed or contradict each other.
    pub fn read(&self) -> Result<Config, ConfigError> {
        self.read_with(&BTreeMap::new())
    }

    /// Reads everything; `database` are the settings the database has for us, which win over all others.
    ///
    /// # Errors
    /// As for [`ConfigSource::read`].
    pub fn read_with(&self, database: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
        let file = match &self.file {
            Some(path) => read_file(path)?,
            None => String::new(),
        };
        let name = self.file.as_deref().unwrap_or(Path::new("configuration"));
        let mut options = Options::new(name, &file, &self.environment, database)?;
        let config = lower(&mut options);
        let (errors, warnings) = options.finish();
        match config {
            Some(config) if errors.is_empty() => Ok(Config { warnings, ..config }),
            _ => Err(ConfigError(errors)),
        }
    }
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError(vec![format!("{}: {error}", path.display())]))
}

/// From options as written to options as meant; `None` only when a mistake has been noted.
fn lower(options: &mut Options<'_>) -> Option<Config> {
    let server_host = options.text("server-host").unwrap_or_else(|| "!4".to_owned());
    let server_port = options.integer("server-port").unwrap_or(3000);
    let admin_server_port = options.integer("admin-server-port");
    if admin_server_port == Some(server_port) && server_port != 0 {
        options.mistake("admin-server-port", "cannot be the same as server-port");
    }
    let admin_server_unix_socket = options.text("admin-server-unix-socket").map(PathBuf::from);
    if admin_server_unix_socket.is_some() && admin_server_port.is_some() {
        options.mistake("admin-server-unix-socket", "cannot be given beside admin-server-port");
    }
    let jwt_keys = keys(options);
    let db_schemas = options.list_or("db-schemas", &["db-schema"], &["public"]);
    for name in options.list_or("db-schemas", &["db-schema"], &[]) {
        if matches!(name.as_str(), "pg_catalog" | "information_schema") {
            options.mistake("db-schemas", &format!("cannot expose \"{name}\""));
        }
    }
    if options.boolean("server-otel-enabled", false) {
        options.mistake("server-otel-enabled", "is not implemented yet");
    }
    Some(Config {
        admin_server_host: options.text("admin-server-host").unwrap_or_else(|| server_host.clone()),
        admin_server_port,
        admin_server_unix_socket,
        admin_server_unix_socket_mode: socket_mode(options, "admin-server-unix-socket-mode"),
        app_settings: options.app_settings(),
        client_error_verbosity: options.one_of(
            "client-error-verbosity",
            &[("verbose", Verbosity::Verbose), ("minimal", Verbosity::Minimal)],
        ),
        db_aggregates_enabled: options.boolean("db-aggregates-enabled", false),
        db_anon_role: options.text("db-anon-role").map(Arc::from),
        db_channel: options.text("db-channel").unwrap_or_else(|| "pgrst".to_owned()),
        db_channel_enabled: options.boolean("db-channel-enabled", true),
        db_config: options.boolean("db-config", true),
        db_extra_search_path: options.list_or("db-extra-search-path", &[], &["public"]),
        db_hoisted_tx_settings: options.list_or(
            "db-hoisted-tx-settings",
            &[],
            &["statement_timeout", "plan_filter.statement_cost_limit", "default_transaction_isolation"],
        ),
        db_max_rows: options.integer_or_alias("db-max-rows", "max-rows"),
        db_plan_enabled: options.boolean("db-plan-enabled", false),
        db_pool: options.integer("db-pool").unwrap_or(10).max(1),
        db_pool_acquisition_timeout: options.seconds("db-pool-acquisition-timeout", 10),
        db_pool_automatic_recovery: options.boolean("db-pool-automatic-recovery", true),
        db_pool_max_idletime: Duration::from_secs(
            options.integer_or_alias("db-pool-max-idletime", "db-pool-timeout").unwrap_or(30),
        ),
        db_pool_max_lifetime: options.seconds("db-pool-max-lifetime", 1800),
        db_pre_config: options.text("db-pre-config").map(|name| ObjectName::parse(&name)),
        db_pre_request: options
            .text_or_alias("db-pre-request", "pre-request")
            .map(|name| ObjectName::parse(&name)),
        db_prepared_statements: options.boolean("db-prepared-statements", true),
        db_root_spec: options.text_or_alias("db-root-spec", "root-spec").map(|name| ObjectName::parse(&name)),
        db_schemas,
        db_statement_timeout: options.seconds("db-statement-timeout", 30),
        db_timezone_enabled: options.boolean("db-timezone-enabled", true),
        db_tx_end: options.one_of(
            "db-tx-end",
            &[
                ("commit", TransactionEnd { rollback: false, allow_override: false }),
                ("commit-allow-override", TransactionEnd { rollback: false, allow_override: true }),
                ("rollback", TransactionEnd { rollback: true, allow_override: false }),
                ("rollback-allow-override", TransactionEnd { rollback: true, allow_override: true }),
            ],
        ),
        jwt_aud: audience(options),
        jwt_cache_max_entries: options.integer("jwt-cache-max-entries").unwrap_or(1000),
        jwt_role_claim_key: role_claim(options),
        jwt_keys,
        log_level: options.one_of(
            "log-level",
            &[
                ("error", LogLevel::Error),
                ("crit", LogLevel::Critical),
                ("warn", LogLevel::Warn),
                ("info", LogLevel::Info),
                ("debug", LogLevel::Debug),
            ],
        ),
        log_query: options.one_of(
            "log-query",
            &[("disabled", false), ("false", false), ("true", true), ("main-query", true)],
        ),
        openapi_mode: options.one_of(
            "openapi-mode",
            &[
                ("follow-privileges", OpenApiMode::FollowPrivileges),
                ("ignore-privileges", OpenApiMode::IgnorePrivileges),
                ("disabled", OpenApiMode::Disabled),
            ],
        ),
        openapi_security_active: options.boolean("openapi-security-active", false),
        openapi_server_proxy_uri: proxy_uri(options),
        openapi_title: options.text("openapi-title"),
        openapi_version: options.text("openapi-version"),
        server_cors_allowed_origins: options
            .text("server-cors-allowed-origins")
            .map(|origins| origins.split(',').map(|origin| origin.trim().to_owned()).collect()),
        server_host,
        server_max_body: options.integer("server-max-body").unwrap_or(64 << 20),
        server_max_body_memory: options.integer("server-max-body-memory").unwrap_or(256 << 20),
        server_body_timeout: options.seconds("server-body-timeout", 60),
        server_port,
        server_reuseport: options.boolean("server-reuseport", false),
        server_stop_timeout: options.seconds("server-stop-timeout", 30),
        server_threads: options.integer("server-threads").filter(|threads| *threads > 0),
        server_timing_enabled: options.boolean("server-timing-enabled", false),
        server_trace_header: trace_header(options),
        server_unix_socket: options.text("server-unix-socket").map(PathBuf::from),
        server_unix_socket_mode: socket_mode(options, "server-unix-socket-mode"),
        url_use_legacy_target_names: options.boolean("url-use-legacy-target-names", true),
        role_settings: FxHashMap::default(),
        session_statement_timeout: Duration::ZERO,
        warnings: Vec::new(),
        // Last, so that the other options' mistakes are noted first.
        db_uri: target(options)?,
    })
}

fn target(options: &mut Options<'_>) -> Option<Arc<Target>> {
    let text = options.text("db-uri").unwrap_or_else(|| "postgresql://".to_owned());
    let Ok(text) = String::from_utf8(options.secret("db-uri", text)?) else {
        options.mistake("db-uri", "is not UTF-8");
        return None;
    };
    match Target::parse(text.trim(), options.environment()) {
        Ok(target) => Some(Arc::new(target)),
        Err(error) => {
            options.mistake("db-uri", &error.to_string());
            None
        }
    }
}

fn keys(options: &mut Options<'_>) -> Option<Arc<Keys>> {
    let is_base64 = options.boolean_or_alias("jwt-secret-is-base64", "secret-is-base64", false);
    let secret = options.text("jwt-secret")?;
    let secret = options.secret("jwt-secret", secret)?;
    let keys = if is_base64 { Keys::from_base64(&secret) } else { Keys::parse(&secret) };
    match keys {
        Ok(keys) => Some(Arc::new(keys)),
        Err(error) => {
            options.mistake("jwt-secret", &error.to_string());
            None
        }
    }
}

fn audience(options: &mut Options<'_>) -> Option<String> {
    let audience = options.text("jwt-aud")?;
    // RFC 7519 section 2: a StringOrURI with a colon is a URI.
    if audience.contains(':') && (audience.starts_with(':') || audience.contains(char::is_whitespace)) {
        options.mistake("jwt-aud", "should be a string or a valid URI");
    }
    Some(audience)
}

fn role_claim(options: &mut Options<'_>) -> RoleClaim {
    let Some(text) = options.text_or_alias("jwt-role-claim-key", "role-claim-key") else {
        return RoleClaim::default();
    };
    RoleClaim::parse(&text).unwrap_or_else(|| {
        options.mistake("jwt-role-claim-key", &format!("failed to parse role-claim-key value ({text})"));
        RoleClaim::default()
    })
}

fn proxy_uri(options: &mut Options<'_>) -> Option<String> {
    let text = options.text("openapi-server-proxy-uri")?;
    let is_right = text.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
    });
    if !is_right {
        options.mistake(
            "openapi-server-proxy-uri",
            "malformed proxy uri, a correct example: https://example.com:8443/basePath",
        );
    }
    Some(text)
}

fn trace_header(options: &mut Options<'_>) -> Option<HeaderName> {
    let text = options.text("server-trace-header")?;
    let header = HeaderName::try_from(text).ok();
    if header.is_none() {
        options.mistake("server-trace-header", "is not a header's name");
    }
    header
}

fn socket_mode(options: &mut Options<'_>, name: &'static str) -> u32 {
    let Some(text) = options.text(name) else {
        return 0o660;
    };
    match u32::from_str_radix(&text, 8) {
        Ok(mode @ 0o600..=0o777) => return mode,
        Ok(_) => options.mistake(name, "needs to be between 600 and 777"),
        Err(_) => options.mistake(name, "not an octal"),
    }
    0o660
}

impl Config {
    /// Whether requests of this transaction preference are rolled back.
    pub fn rolls_back(&self, preference: Option<crate::request::preferences::TransactionEnd>) -> bool {
        use crate::request::preferences::TransactionEnd as Preference;
        match preference.filter(|_| self.db_tx_end.allow_override) {
            Some(Preference::Commit) => false,
            Some(Preference::Rollback) => true,
            None => self.db_tx_end.rollback,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.dump())
    }
}

#[cfg(test)]
mod tests;
