//! What the database says about the configuration: settings of the role we log in as and of the
//! pre-config function, and the settings of the roles requests may run as.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::ObjectName;
use crate::postgres::{Connection, DatabaseError, Statement};

/// The options a database may set, as `pgrst.NAME`.
const SETTINGS: [&str; 28] = [
    "client_error_verbosity",
    "db_aggregates_enabled",
    "db_anon_role",
    "db_extra_search_path",
    "db_hoisted_tx_settings",
    "db_max_rows",
    "db_plan_enabled",
    "db_pre_config",
    "db_pre_request",
    "db_prepared_statements",
    "db_root_spec",
    "db_schemas",
    "db_statement_timeout",
    "db_timezone_enabled",
    "db_tx_end",
    "jwt_aud",
    "jwt_cache_max_entries",
    "jwt_role_claim_key",
    "jwt_secret",
    "jwt_secret_is_base64",
    "log_query",
    "openapi_mode",
    "openapi_security_active",
    "openapi_server_proxy_uri",
    "server_cors_allowed_origins",
    "server_timing_enabled",
    "server_trace_header",
    "url_use_legacy_target_names",
];

/// `transaction_isolation`
/// (<https://www.postgresql.org/docs/current/transaction-iso.html>).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// The default.
    #[default]
    ReadCommitted,
    /// One snapshot for the whole transaction.
    RepeatableRead,
    /// As if transactions ran one after the other.
    Serializable,
}

impl Isolation {
    /// Reads a setting; what is unknown is the default.
    pub fn parse(text: &str) -> Self {
        match text {
            "repeatable read" => Self::RepeatableRead,
            "serializable" => Self::Serializable,
            _ => Self::ReadCommitted,
        }
    }

    /// As SQL.
    pub fn sql(self) -> &'static str {
        match self {
            Self::ReadCommitted => "read committed",
            Self::RepeatableRead => "repeatable read",
            Self::Serializable => "serializable",
        }
    }
}

/// What a role has set for itself (`ALTER ROLE … SET …`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleSettings {
    /// `default_transaction_isolation`.
    pub isolation: Option<Isolation>,
    /// All others that may be set, by name.
    pub settings: Vec<(String, String)>,
}

/// Reads the options the database sets, by name with underscores. Those of the role and this database win
/// over those of the role alone, those over the pre-config function's.
///
/// # Errors
/// PostgreSQL refused, or the pre-config function failed.
pub async fn options(
    connection: &Connection,
    pre_config: Option<&ObjectName>,
) -> Result<BTreeMap<String, String>, DatabaseError> {
    let names = format!("{{{}}}", SETTINGS.map(|name| format!("pgrst.{name}")).join(","));
    let function = pre_config.map_or_else(String::new, |function| {
        format!(
            "union all select null, name, current_setting(name, true) \
             from {}() as called, unnest($1::text[]) as name",
            function.sql()
        )
    });
    let sql = include_str!("options.sql").replace("/* pre-config */", &function);
    let rows = connection.query(&Statement::new(sql, vec![Some(names.into())])).await?;
    Ok(rows.iter().filter_map(|row| Some((row.text(0)?.to_owned(), row.text(1)?.to_owned()))).collect())
}

/// Reads what the roles that requests may run as have set for themselves.
///
/// # Errors
/// PostgreSQL refused.
pub async fn role_settings(
    connection: &Connection,
) -> Result<FxHashMap<Arc<str>, RoleSettings>, DatabaseError> {
    let major: u32 = connection.version().split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let privilege =
        if major >= 15 { "or has_parameter_privilege(current_user, known.name, 'set')" } else { "" };
    let sql = include_str!("role_settings.sql").replace("/* privilege */", privilege);
    let mut roles: FxHashMap<Arc<str>, RoleSettings> = FxHashMap::default();
    for row in connection.query(&Statement::new(sql, Vec::new())).await? {
        let (Some(role), Some(name), Some(value)) = (row.text(0), row.text(1), row.text(2)) else {
            continue;
        };
        let settings = roles.entry(role.into()).or_default();
        if name == "default_transaction_isolation" {
            settings.isolation = Some(Isolation::parse(value));
        } else {
            settings.settings.push((name.to_owned(), value.to_owned()));
        }
    }
    Ok(roles)
}
