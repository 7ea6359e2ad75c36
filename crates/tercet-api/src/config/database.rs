//! What the database says about the configuration: settings of the role we log in as and of the
//! pre-config function, and the settings of the roles requests may run as.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use tercet_options::api::rules;
use tercet_options::reference::properties;
use tercet_postgres::{Connection, DatabaseError, Statement, quote};

use super::ObjectName;

/// The options that a database may set, as `pgrst.NAME`.
fn settings() -> impl Iterator<Item = String> {
    let options = properties(rules()).into_iter().filter(|(_, rule)| rule["x-in-database"] == true);
    options.map(|(name, _)| format!("pgrst.{}", name.replace('-', "_")))
}

/// What a transaction must be told before it does anything: isolation level, whether it may write, whether it may be
/// deferred (<https://www.postgresql.org/docs/current/sql-set-transaction.html>).
///
/// The values are as the database has them. PostgreSQL parses them, and rejects invalid ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Characteristics {
    isolation: Option<String>,
    read_only: Option<String>,
    deferrable: Option<String>,
}

impl Characteristics {
    /// Whether a setting is one of them.
    pub fn has(name: &str) -> bool {
        Self::default().field(name).is_some()
    }

    /// Takes a setting if it is one of them: `default_transaction_isolation`, which a transaction that has begun does
    /// not heed any more, and the like. Says whether it was.
    pub fn take(&mut self, name: &str, value: &str) -> bool {
        self.field(name).map(|field| *field = Some(value.to_owned())).is_some()
    }

    fn field(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name.strip_prefix("default_").unwrap_or(name) {
            "transaction_isolation" => &mut self.isolation,
            "transaction_read_only" => &mut self.read_only,
            "transaction_deferrable" => &mut self.deferrable,
            _ => return None,
        })
    }

    /// Whether nothing differs from what the session has.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What says them right after BEGIN. `read_only`: what is read only anyway.
    pub fn statements(&self, read_only: bool) -> impl Iterator<Item = Statement> {
        let read_only = if read_only { None } else { self.read_only.as_ref() };
        let all = [
            ("transaction_isolation", self.isolation.as_ref()),
            ("transaction_read_only", read_only),
            ("transaction_deferrable", self.deferrable.as_ref()),
        ];
        all.into_iter().filter_map(|(name, value)| {
            let value = quote::literal(value?);
            Some(Statement::new(format!("set local {name} to {value}"), Vec::new()))
        })
    }
}

/// What a role has set for itself (`ALTER ROLE … SET …`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleSettings {
    /// What its transactions begin with.
    pub characteristics: Characteristics,
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
    let names = format!("{{{}}}", settings().collect::<Vec<_>>().join(","));
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
        if !settings.characteristics.take(name, value) {
            settings.settings.push((name.to_owned(), value.to_owned()));
        }
    }
    Ok(roles)
}
