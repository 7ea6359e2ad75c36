//! The settings of a request's transaction, as one statement: role, claims, search path, request context, and the
//! settings of role, routine and operator.

use std::sync::LazyLock;

use bytes::Bytes;
use tercet_postgres::{Statement, quote};

use super::Context;
use crate::config::Config;
use crate::config::database::Characteristics;

/// The characteristic of a routine that applies whether it is hoisted or not.
pub(super) const ISOLATION: &str = "default_transaction_isolation";

/// Whether a routine's setting applies to the transaction (`db-hoisted-tx-settings`).
pub(super) fn is_hoisted(config: &Config, name: &str) -> bool {
    config.db_hoisted_tx_settings.iter().any(|hoisted| hoisted.eq_ignore_ascii_case(name))
}

/// What the settings permit, and what follows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Only reads.
    Read,
    /// Writes, in front of [`enable_warnings`].
    Write,
    /// Writes without user-defined code: nothing after the settings can disable warnings or change the encoding.
    PlainWrite,
}

/// One `select where set_config(…) is null or …`, local to the transaction
/// (<https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-SET>): all are set, in this order,
/// and no row is returned. Its text depends on the configuration and `access` only, never on the request.
pub(super) fn statement(context: Context<'_>, access: Access) -> Statement {
    let Context { config, identity, request, routine, .. } = context;
    let mut settings = Settings { sql: String::with_capacity(512), parameters: Vec::with_capacity(8) };
    settings.parameter("search_path", search_path(&request.schema, &config.db_extra_search_path));
    // Before the role is set: the authenticator may have a right to set parameters that the role lacks.
    if let Some(of_role) = config.role_settings.get(&identity.role) {
        for (name, value) in &of_role.settings {
            settings.constant(name, value);
        }
    }
    settings.parameter("role", Bytes::copy_from_slice(identity.role.as_bytes()));
    settings.parameter("request.jwt.claims", identity.claims.clone());
    settings.parameter("request.method", Bytes::copy_from_slice(request.method.as_str().as_bytes()));
    settings.parameter("request.path", Bytes::copy_from_slice(request.path.as_bytes()));
    settings.parameter("request.headers", request.headers_json());
    settings.parameter("request.cookies", request.cookies_json());
    if let Some(zone) = &request.preferences.timezone {
        settings.parameter("timezone", zone.clone());
    }
    for (name, value) in routine.iter().flat_map(|routine| &routine.settings) {
        if is_hoisted(config, name) && !Characteristics::has(name) {
            settings.constant(name, value);
        }
    }
    for (name, value) in &config.app_settings {
        settings.constant(name, value);
    }
    match access {
        Access::Read => settings.constant("transaction_read_only", "on"),
        Access::Write => {}
        Access::PlainWrite => settings.constant("client_min_messages", "warning"),
    }
    Statement::new(settings.sql, settings.parameters)
}

/// The prefix of the error message of `encoding_check`.
pub(super) const ENCODING_CHANGED: &str = "client_encoding was changed to ";

/// Fails if a function has changed `client_encoding`: otherwise the answer would be decoded wrongly. PostgreSQL does
/// not report a change that ends with its transaction.
macro_rules! encoding_check {
    () => {
        "nullif(pg_catalog.concat('client_encoding was changed to ', \
         pg_catalog.current_setting('client_encoding')), 'client_encoding was changed to UTF8')::pg_catalog.int4"
    };
}

/// The last statement of a read-only transaction.
pub(super) fn check_encoding() -> Statement {
    static STATEMENT: LazyLock<Statement> = LazyLock::new(|| concat!("select ", encoding_check!()).into());
    STATEMENT.clone()
}

/// The last statement of a writing transaction: checks the encoding, and enables warnings regardless of role or
/// function settings, since PostgreSQL warns if a commit may not have reached a standby.
pub(super) fn enable_warnings() -> Statement {
    static STATEMENT: LazyLock<Statement> = LazyLock::new(|| {
        concat!("select pg_catalog.set_config('client_min_messages', 'warning', true), ", encoding_check!())
            .into()
    });
    STATEMENT.clone()
}

/// Calls the pre-request function. Later statements are sent and parsed as UTF-8.
pub(super) fn pre_request(function: &str) -> Statement {
    format!("select {function}(), pg_catalog.set_config('client_encoding', 'UTF8', true)").as_str().into()
}

struct Settings {
    sql: String,
    parameters: Vec<Option<Bytes>>,
}

impl Settings {
    fn parameter(&mut self, name: &'static str, value: impl Into<Bytes>) {
        self.parameters.push(Some(value.into()));
        self.next();
        self.sql.push_str("set_config('");
        self.sql.push_str(name);
        self.sql.push_str("',$");
        self.sql.push_str(itoa::Buffer::new().format(self.parameters.len()));
        self.sql.push_str(",true) is null");
    }

    fn constant(&mut self, name: &str, value: &str) {
        // Statements and results are UTF-8, whatever the role's setting.
        if name.eq_ignore_ascii_case("client_encoding") {
            return;
        }
        self.next();
        self.sql.push_str("set_config(");
        quote::push_literal(&mut self.sql, name);
        self.sql.push(',');
        quote::push_literal(&mut self.sql, value);
        self.sql.push_str(",true) is null");
    }

    fn next(&mut self) {
        self.sql.push_str(if self.sql.is_empty() { "select where " } else { " or " });
    }
}

fn search_path(schema: &str, extra: &[String]) -> String {
    let mut path = quote::identifier(schema);
    for schema in extra {
        path.push_str(", ");
        quote::push_identifier(&mut path, schema);
    }
    path
}
