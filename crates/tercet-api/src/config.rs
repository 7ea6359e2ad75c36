//! The configuration of one data API: the options that `tercet-options` declares, from a file, the environment and the
//! database (<https://docs.postgrest.org/en/latest/references/configuration.html>).
//!
//! The process environment is not read here: the command passes it in. All mistakes are reported at once.

pub mod database;
mod dump;
pub mod role_claim;
mod sources;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Uri};
use rustc_hash::FxHashMap;
use tercet_options::Mistakes;
pub use tercet_options::api::{LogLevel, OpenApiMode, Options};
use tercet_postgres::{Target, quote};

use self::database::RoleSettings;
use self::role_claim::RoleClaim;
use self::sources::Sources;
use crate::identity_provider::IdentityProvider;
use crate::token_keys::Keys;

/// The provider signs tokens for other services, too.
const NO_AUDIENCE: &str =
    "jwt-aud is not set: a token that the identity provider made for another service is accepted here, too";

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

/// The options of one data API, as they are used. An option whose value is parsed further has a field here, which hides the
/// one of [`Options`] of the same name.
#[derive(Clone)]
pub struct Config {
    /// The options as they were written.
    pub options: Options,
    /// `admin-server-host`, or `server-host`.
    pub admin_server_host: String,
    /// `app.settings.*`, by full name.
    pub app_settings: BTreeMap<String, String>,
    /// `db-pre-config`.
    pub db_pre_config: Option<ObjectName>,
    /// `db-pre-request`.
    pub db_pre_request: Option<ObjectName>,
    /// `db-root-spec`.
    pub db_root_spec: Option<ObjectName>,
    /// `db-uri`.
    pub db_uri: Arc<Target>,
    /// `jwt-issuer`, `jwks-url` and `jwks-cache-file`.
    pub identity_provider: Option<IdentityProvider>,
    /// `jwt-role-claim-key`.
    pub jwt_role_claim_key: RoleClaim,
    /// The keys in `jwt-secret`.
    pub jwt_keys: Option<Arc<Keys>>,
    /// `server-trace-header`.
    pub server_trace_header: Option<HeaderName>,
    /// The settings of each role that a request may run as, from the database.
    pub role_settings: FxHashMap<Arc<str>, RoleSettings>,
    /// The `statement_timeout` of the login role's sessions, from the database; zero is none.
    pub session_statement_timeout: Duration,
    /// Oddities of the configuration that are no mistakes, for the log.
    pub warnings: Vec<String>,
}

impl Deref for Config {
    type Target = Options;

    fn deref(&self) -> &Options {
        &self.options
    }
}

/// The sources of a configuration, kept to read it again.
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
    /// The file cannot be read, or all mistakes: options that are unknown, malformed or contradict each other.
    pub fn read(&self) -> Result<Config, Mistakes> {
        self.read_with(&BTreeMap::new())
    }

    /// Reads everything; `database` are the settings in the database, which override all others.
    ///
    /// # Errors
    /// As for [`ConfigSource::read`].
    pub fn read_with(&self, database: &BTreeMap<String, String>) -> Result<Config, Mistakes> {
        let (name, text) = match &self.file {
            Some(path) => (
                path.display().to_string(),
                std::fs::read_to_string(path).map_err(|error| Mistakes::unreadable(path, &error))?,
            ),
            None => ("configuration".to_owned(), String::new()),
        };
        let mut sources = Sources::read(&name, &text, &self.environment, database)?;
        let options = sources.options();
        let config = lower(options, &mut sources);
        let (mistakes, mut warnings) = sources.finish();
        if config.as_ref().is_some_and(|it| it.identity_provider.is_some() && it.jwt_aud.is_none()) {
            warnings.push(NO_AUDIENCE.to_owned());
        }
        config.map(|config| Config { warnings, ..config }).filter(|_| mistakes.is_empty()).ok_or(mistakes)
    }
}

/// From options as written to options as used; `None` only when a mistake was reported.
fn lower(mut options: Options, sources: &mut Sources<'_>) -> Option<Config> {
    let object = |name: &Option<String>| name.as_deref().map(ObjectName::parse);
    options.db_pool = options.db_pool.max(1);
    options.server_threads = options.server_threads.filter(|threads| *threads > 0);
    Some(Config {
        admin_server_host: options.admin_server_host.clone().unwrap_or_else(|| options.server_host.clone()),
        app_settings: sources.app_settings(),
        db_pre_config: object(&options.db_pre_config),
        db_pre_request: object(&options.db_pre_request),
        db_root_spec: object(&options.db_root_spec),
        identity_provider: identity_provider(&options, sources),
        jwt_keys: keys(&options, sources),
        jwt_role_claim_key: role_claim(&options, sources),
        server_trace_header: options.server_trace_header.as_deref().and_then(|name| name.parse().ok()),
        role_settings: FxHashMap::default(),
        session_statement_timeout: Duration::ZERO,
        warnings: Vec::new(),
        db_uri: target(&options, sources)?,
        options,
    })
}

fn target(options: &Options, sources: &mut Sources<'_>) -> Option<Arc<Target>> {
    let Ok(text) = String::from_utf8(sources.content("db-uri", options.db_uri.expose())?) else {
        sources.mistake("db-uri", "is not UTF-8");
        return None;
    };
    let target = Target::parse(text.trim(), sources.environment());
    target.map(Arc::new).map_err(|error| sources.mistake("db-uri", &format!("can't be used: {error}"))).ok()
}

fn keys(options: &Options, sources: &mut Sources<'_>) -> Option<Arc<Keys>> {
    let secret = sources.content("jwt-secret", options.jwt_secret.as_ref()?.expose())?;
    let keys = if options.jwt_secret_is_base64 { Keys::from_base64(&secret) } else { Keys::parse(&secret) };
    keys.map(Arc::new).map_err(|error| sources.mistake("jwt-secret", &format!("can't be used: {error}"))).ok()
}

fn identity_provider(options: &Options, sources: &mut Sources<'_>) -> Option<IdentityProvider> {
    let mut url = |name: &str, text: &Option<String>| {
        let parsed = text.as_deref()?.parse::<Uri>();
        parsed.map_err(|error| sources.mistake(name, &format!("can't be used: {error}"))).ok()
    };
    let (key_set, issuer) = (url("jwks-url", &options.jwks_url), url("jwt-issuer", &options.jwt_issuer));
    (key_set.is_some() || issuer.is_some()).then(|| IdentityProvider {
        issuer: options.jwt_issuer.clone(),
        key_set,
        file: options.jwks_cache_file.clone(),
    })
}

fn role_claim(options: &Options, sources: &mut Sources<'_>) -> RoleClaim {
    let Some(text) = &options.jwt_role_claim_key else { return RoleClaim::default() };
    RoleClaim::parse(text).unwrap_or_else(|| {
        let problem = format!("can't be used: failed to parse role-claim-key value ({text})");
        sources.mistake("jwt-role-claim-key", &problem);
        RoleClaim::default()
    })
}

impl Config {
    /// Whether requests of this transaction preference are rolled back.
    pub fn rolls_back(&self, preference: Option<crate::request::preferences::TransactionEnd>) -> bool {
        use crate::request::preferences::TransactionEnd as Preference;
        match preference.filter(|_| self.db_tx_end.allows_override()) {
            Some(Preference::Commit) => false,
            Some(Preference::Rollback) => true,
            None => self.db_tx_end.rolls_back(),
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
