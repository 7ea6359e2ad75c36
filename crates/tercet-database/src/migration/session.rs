//! A database session that applies migrations: the advisory lock, the table of applied migrations, and the files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tercet_postgres::{Connection, DatabaseError, Row, Statement, Target};

use super::{File, MigrationError};

/// The table of applied migrations, in a schema that is never exposed.
pub(super) const TABLE: &str = "tercet.migrations";

const CREATE: &str = "
create schema if not exists tercet;
create table if not exists tercet.migrations (
    version bigint primary key,
    description text not null,
    installed_on timestamptz not null default now(),
    success boolean not null,
    checksum bytea not null,
    execution_time bigint not null
)";

/// A record of the table.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(super) success: bool,
    pub(super) checksum: String,
    pub(super) description: String,
    pub(super) installed_on: String,
}

/// Undoes the settings that a file left behind, and gives the literals of times the same meaning whatever the settings of
/// the database and the role are.
const BEGIN: &str = "reset all; reset role; set datestyle to 'ISO, MDY'; set timezone to 'UTC'";

pub(crate) struct Session {
    connection: Connection,
    /// The key of the advisory lock that all migrators of this database use.
    lock: String,
}

impl Session {
    pub(crate) async fn begin(target: &Arc<Target>) -> Result<Self, MigrationError> {
        let connection = Connection::connect(target, false).await?;
        connection.simple_query(BEGIN).await?;
        let rows = connection.query(&"select current_database()".into()).await?;
        let database = rows.first().and_then(|row| row.text(0)).unwrap_or_default();
        let lock = lock_key(database).to_string();
        Ok(Self { connection, lock })
    }

    /// Acquires the advisory lock, after any other migrator of the database has released it. The end of the session
    /// releases it (<https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS>).
    pub(super) async fn lock(&self) -> Result<(), DatabaseError> {
        self.run("select pg_advisory_lock($1)", &[&self.lock]).await
    }

    pub(super) async fn unlock(&self) -> Result<(), DatabaseError> {
        self.run("select pg_advisory_unlock($1)", &[&self.lock]).await
    }

    pub(super) async fn create_table(&self) -> Result<(), DatabaseError> {
        self.execute(CREATE).await
    }

    /// Runs statements without parameters.
    pub(crate) async fn execute(&self, sql: &str) -> Result<(), DatabaseError> {
        self.connection.simple_query(sql).await.map(drop)
    }

    /// The applied migrations by version.
    pub(crate) async fn applied(&self) -> Result<BTreeMap<i64, Applied>, MigrationError> {
        let exists = statement("select where to_regclass($1) is not null", &[TABLE]);
        if self.connection.query(&exists).await?.is_empty() {
            return Ok(BTreeMap::new());
        }
        // Encoded as text, so that `bytea_output` does not matter.
        let select = "select version, success, '\\x' || encode(checksum, 'hex'), description, \
                      to_char(installed_on at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') from tercet.migrations";
        let mut applied = BTreeMap::new();
        for row in self.connection.query(&select.into()).await? {
            let record = || {
                let version = row.text(0)?.parse().ok()?;
                let checksum = row.text(2)?.to_owned();
                let (description, installed_on) = (row.text(3)?.to_owned(), row.text(4)?.to_owned());
                Some((version, Applied { success: row.text(1)? == "t", checksum, description, installed_on }))
            };
            let wrong =
                || DatabaseError::Protocol(format!("a record of {TABLE} without a number or checksum"));
            let (version, record) = record().ok_or_else(wrong)?;
            applied.insert(version, record);
        }
        Ok(applied)
    }

    /// Applies a migration, and records it with the time that it took.
    pub(super) async fn apply(&self, version: i64, file: &File) -> Result<(), MigrationError> {
        let began = Instant::now();
        let version = version.to_string();
        let record = "insert into tercet.migrations (version, description, success, checksum, execution_time) \
                      values ($1, $2, true, $3, -1)";
        self.run_file(file, record, &[&version, &file.description, &file.checksum()]).await?;
        let elapsed = began.elapsed().as_nanos().to_string();
        let update = "update tercet.migrations set execution_time = $1 where version = $2";
        Ok(self.run(update, &[&elapsed, &version]).await?)
    }

    /// Runs a file and then the statement `record`, in one transaction unless the file begins with `-- no-transaction`.
    async fn run_file(&self, file: &File, record: &str, values: &[&str]) -> Result<(), MigrationError> {
        let script = file.script()?;
        self.execute(BEGIN).await?;
        if !file.is_alone() {
            self.execute("begin").await?;
        }
        self.execute(&script).await.map_err(|error| file.explain(&error))?;
        self.run(record, values).await?;
        if !file.is_alone() {
            // Deferred constraints are checked here.
            self.execute("commit").await.map_err(|error| file.explain(&error))?;
        }
        Ok(())
    }

    /// The checksums of the applied seeds by name; `None` if the database gets no seeds.
    pub(crate) async fn seeds(&self) -> Result<Option<BTreeMap<String, String>>, MigrationError> {
        let exists = "select where to_regclass('tercet.seeds') is not null";
        if self.connection.query(&exists.into()).await?.is_empty() {
            return Ok(None);
        }
        let select = "select name, '\\x' || encode(checksum, 'hex') from tercet.seeds";
        let rows = self.connection.query(&select.into()).await?;
        let record = |row: &Row| Some((row.text(0)?.to_owned(), row.text(1)?.to_owned()));
        Ok(Some(rows.iter().filter_map(record).collect()))
    }

    /// Applies a seed, and records it.
    pub(crate) async fn plant(&self, file: &File) -> Result<(), MigrationError> {
        let record = "insert into tercet.seeds (name, checksum) values ($1, $2)";
        self.run_file(file, record, &[&file.description, &file.checksum()]).await
    }

    async fn run(&self, sql: &str, values: &[&str]) -> Result<(), DatabaseError> {
        self.connection.query(&statement(sql, values)).await.map(drop)
    }
}

fn statement(sql: &str, values: &[&str]) -> Statement {
    Statement::new(sql, values.iter().map(|value| Some((*value).to_owned().into())).collect())
}

/// The key of sqlx's advisory lock for a database: a constant times the CRC-32 (ISO 3309) of its name.
fn lock_key(database: &str) -> i64 {
    let crc = database.bytes().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ (crc & 1).wrapping_mul(0xedb8_8320))
    });
    0x3d32_ad9e * i64::from(!crc)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_lock_is_that_of_sqlx() {
        // CRC-32's check value.
        assert_eq!(super::lock_key("123456789"), 0x3d32_ad9e * 0xcbf4_3926);
    }
}
