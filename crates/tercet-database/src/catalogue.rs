//! The catalogue of a cluster: its databases, roles, migrations and estimated row counts; a restored copy is compared
//! with that of the live cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tercet_postgres::{Connection, DatabaseError, Target};

/// A difference of row counts below this fraction of the expected number is no warning.
const FRACTION: f64 = 0.2;
/// A difference of row counts below this number is no warning.
const ROWS: f64 = 1000.0;

/// The catalogue of a cluster at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Catalogue {
    /// When it was read, by the clock of the database.
    pub at: Timestamp,
    /// Identifies the cluster and its copies.
    pub system_identifier: String,
    /// `shared_preload_libraries`, which a restored copy needs, too.
    pub preload_libraries: String,
    /// The databases, without templates.
    pub databases: BTreeSet<String>,
    /// The roles, without PostgreSQL's own.
    pub roles: BTreeSet<String>,
    /// The applied migrations of the project's database: version and checksum.
    #[serde(default)]
    pub migrations: BTreeMap<i64, String>,
    /// The tables of the project's database with the estimated number of rows (`pg_class.reltuples`); negative: unknown.
    pub tables: BTreeMap<String, f64>,
}

impl Catalogue {
    /// Reads the catalogue; `superuser` connects to the project's database. Must be called on a `LocalSet`.
    ///
    /// # Errors
    /// A query fails.
    pub async fn read(superuser: &Arc<Target>) -> Result<Self, DatabaseError> {
        let connection = Connection::connect(superuser, false).await?;
        let rows = connection.query(&include_str!("catalogue/catalogue.sql").into()).await?;
        let text = rows.first().and_then(|row| row.text(0)).unwrap_or_default();
        let mut catalogue: Self =
            serde_json::from_str(text).map_err(|error| DatabaseError::Protocol(error.to_string()))?;
        let exists = "select where to_regclass('tercet.migrations') is not null";
        if !connection.query(&exists.into()).await?.is_empty() {
            let select = "select version, encode(checksum, 'hex') from tercet.migrations where success";
            for row in connection.query(&select.into()).await? {
                if let (Some(version), Some(checksum)) =
                    (row.text(0).and_then(|text| text.parse().ok()), row.text(1))
                {
                    catalogue.migrations.insert(version, checksum.to_owned());
                }
            }
        }
        Ok(catalogue)
    }

    /// What the restored copy `self` lacks of the `live` catalogue.
    pub fn missing(&self, live: &Self) -> Vec<String> {
        let named = |kind: &str, names: &BTreeSet<String>, there: &BTreeSet<String>| {
            names.difference(there).map(|name| format!("{kind} {name} is missing")).collect::<Vec<_>>()
        };
        let mut missing = named("database", &live.databases, &self.databases);
        missing.extend(named("role", &live.roles, &self.roles));
        for (version, checksum) in &live.migrations {
            match self.migrations.get(version) {
                None => missing.push(format!("migration {version} is missing")),
                Some(other) if other != checksum => {
                    missing.push(format!("migration {version} has another checksum"));
                }
                Some(_) => {}
            }
        }
        missing
    }

    /// The differences from the `live` catalogue that may have come about since it was read: row counts, and objects that only one of them has.
    pub fn differences(&self, live: &Self) -> Vec<String> {
        let named = |kind: &str, names: &BTreeSet<String>, there: &BTreeSet<String>| {
            names.difference(there).map(|name| format!("{kind} {name} is new")).collect::<Vec<_>>()
        };
        let mut differences = named("database", &self.databases, &live.databases);
        differences.extend(named("role", &self.roles, &live.roles));
        differences.extend(
            self.migrations
                .keys()
                .filter(|version| !live.migrations.contains_key(version))
                .map(|version| format!("migration {version} is new")),
        );
        for (name, expected) in &live.tables {
            let Some(rows) = self.tables.get(name) else {
                differences.push(format!("table {name} is missing"));
                continue;
            };
            let difference = (rows - expected).abs();
            if *rows >= 0.0 && *expected >= 0.0 && difference > (expected * FRACTION).max(ROWS) {
                differences
                    .push(format!("table {name} has about {rows} rows, and {expected} in the live database"));
            }
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue(roles: &[&str], rows: f64) -> Catalogue {
        Catalogue {
            at: Timestamp::UNIX_EPOCH,
            system_identifier: "7".to_owned(),
            preload_libraries: String::new(),
            databases: BTreeSet::from(["shop".to_owned()]),
            roles: roles.iter().map(|&role| role.to_owned()).collect(),
            migrations: BTreeMap::from([(1, "ab".to_owned())]),
            tables: BTreeMap::from([("public.orders".to_owned(), rows)]),
        }
    }

    #[test]
    fn what_is_missing_differs_from_what_may_have_changed_since() {
        let live = catalogue(&["anon", "editor"], 10_000.0);
        let mut restored = catalogue(&["anon", "reader"], 7_999.0);
        restored.migrations.insert(1, "cd".to_owned());
        assert_eq!(restored.missing(&live), ["role editor is missing", "migration 1 has another checksum"]);
        assert_eq!(
            restored.differences(&live),
            ["role reader is new", "table public.orders has about 7999 rows, and 10000 in the live database"]
        );
        let similar = catalogue(&["anon", "editor"], 8_001.0);
        assert!(similar.missing(&live).is_empty() && similar.differences(&live).is_empty());
        assert!(catalogue(&["anon", "editor"], -1.0).differences(&live).is_empty());
    }
}
