//! Migrations: the SQL files of a folder, each applied once, in order, in a transaction of its own.
//!
//! The work is done by sqlx's migrator: checksums, one advisory lock for everybody who migrates the same
//! database. Here its errors get what a person needs: the file, the line, the column.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgErrorPosition};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, SqlSafeStr as _};

use crate::sql_error::{SqlError, message};

/// The table that records what was applied; in a schema that no API exposes.
const TABLE: &str = "tercet.migrations";

/// How a file begins that holds a single statement which allows no transaction around it, such as
/// `create index concurrently`.
const WITHOUT_TRANSACTION: &str = "-- no-transaction";

/// The migrations of a folder, read and in order.
#[derive(Debug)]
pub struct Migrations {
    folder: PathBuf,
    files: BTreeMap<i64, File>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    description: String,
    sql: String,
}

impl File {
    fn migration(&self, version: i64) -> Migration {
        let sql = AssertSqlSafe(self.sql.clone()).into_sql_str();
        let alone = self.sql.starts_with(WITHOUT_TRANSACTION);
        Migration::new(version, self.description.clone().into(), MigrationType::Simple, sql, alone)
    }
}

/// The migrations are not what they should be, or did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A file or the folder cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A name without a number.
    #[error("{}: a migration's name begins with its number; hint: rename it to 0001_{}", .0.display(), suggestion(.0))]
    Name(PathBuf),
    /// Two files with the same number.
    #[error("{} and {} have the same number; hint: give the newer one the next number", .0.display(), .1.display())]
    Twice(PathBuf, PathBuf),
    /// An applied file was edited.
    #[error(
        "{}: it has been applied already, and its text was different then; \
         hint: put the old text back, and write what is new as a migration of its own", .0.display()
    )]
    Changed(PathBuf),
    /// An applied file is gone.
    #[error(
        "migration {version} has been applied already, and its file is no longer in {}; hint: put it back",
        folder.display()
    )]
    Missing {
        /// Its number.
        version: i64,
        /// Where it should be.
        folder: PathBuf,
    },
    /// A statement failed; nothing of its file was kept.
    #[error("{}{}: {message}", path.display(), Place(*.place))]
    Statement {
        /// The file.
        path: PathBuf,
        /// Line and column of the fault, from 1, when PostgreSQL tells.
        place: Option<(usize, usize)>,
        /// What PostgreSQL says, with detail and hint.
        message: String,
    },
    /// The database cannot be reached or used.
    #[error("migrations could not be applied: {0}")]
    Database(SqlError),
}

impl MigrationError {
    /// Whether there is no such database (yet).
    pub fn is_no_database(&self) -> bool {
        // PostgreSQL manual, appendix A: invalid_catalog_name.
        matches!(self, Self::Database(error) if error.code() == Some("3D000"))
    }
}

struct Place(Option<(usize, usize)>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |(line, column)| write!(f, ":{line}:{column}"))
    }
}

fn suggestion(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().trim_start_matches(['_', '-']).to_owned()
}

impl Migrations {
    /// Reads the `.sql` files of a folder: `0001_books.sql`, `20260131_authors.sql`. Other files are not
    /// migrations; a folder that is not there holds none.
    ///
    /// # Errors
    /// A file has no number or another's, or cannot be read.
    pub fn read(folder: &Path) -> Result<Self, MigrationError> {
        let error = |path: &Path, source| MigrationError::File { path: path.to_owned(), source };
        let mut files = BTreeMap::new();
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries.collect::<Result<Vec<_>, _>>().map_err(|source| error(folder, source))?,
            Err(source) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(error(folder, source)),
        };
        let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
        paths.sort();
        for path in
            paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let digits = stem.find(|c: char| !c.is_ascii_digit()).unwrap_or(stem.len());
            let (number, rest) = stem.split_at(digits);
            let Ok(version) = number.parse() else { return Err(MigrationError::Name(path)) };
            let description = rest.trim_start_matches(['_', '-']).replace(['_', '-'], " ");
            let sql = fs::read_to_string(&path).map_err(|source| error(&path, source))?;
            if let Some(File { path: other, .. }) =
                files.insert(version, File { path: path.clone(), description, sql })
            {
                return Err(MigrationError::Twice(other, path));
            }
        }
        Ok(Self { folder: folder.to_owned(), files })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// Applies those the database at `url` has not seen, waiting for anybody else who is at it; how many there were.
    ///
    /// # Errors
    /// See [`MigrationError`]. What came before the failing file stays applied.
    pub async fn apply(&self, url: &str) -> Result<u64, MigrationError> {
        self.apply_as(&url.parse().map_err(unusable)?).await
    }

    /// The same, by a connection that is already described.
    ///
    /// # Errors
    /// See [`MigrationError`]. What came before the failing file stays applied.
    pub async fn apply_as(&self, database: &PgConnectOptions) -> Result<u64, MigrationError> {
        if self.files.is_empty() {
            return Ok(0);
        }
        let migrations = self.files.iter().map(|(version, file)| file.migration(*version));
        let mut migrator = Migrator::with_migrations(migrations.collect());
        migrator.dangerous_set_table_name(TABLE);
        migrator.create_schema("tercet");
        let mut connection = database.connect().await.map_err(unusable)?;
        let before = seen(&mut connection).await.map_err(unusable)?.len();
        migrator.run(&mut connection).await.map_err(|error| self.explain(error))?;
        let after = seen(&mut connection).await.map_err(unusable)?.len();
        connection.close().await.map_err(unusable)?;
        Ok((after - before) as u64)
    }

    /// The files the database has not seen, in order. Changes nothing.
    ///
    /// # Errors
    /// What it has seen is another text or no longer there, or it cannot be read.
    pub async fn pending(&self, database: &PgConnectOptions) -> Result<Vec<&Path>, MigrationError> {
        let mut connection = database.connect().await.map_err(unusable)?;
        let seen = seen(&mut connection).await.map_err(unusable)?;
        connection.close().await.map_err(unusable)?;
        for (version, checksum) in &seen {
            match self.files.get(version) {
                None => return Err(self.explain(MigrateError::VersionMissing(*version))),
                Some(file) if *file.migration(*version).checksum != **checksum => {
                    return Err(self.explain(MigrateError::VersionMismatch(*version)));
                }
                Some(_) => {}
            }
        }
        let unseen = self.files.iter().filter(|(version, _)| !seen.contains_key(version));
        Ok(unseen.map(|(_, file)| file.path.as_path()).collect())
    }

    fn explain(&self, error: MigrateError) -> MigrationError {
        let path =
            |version| self.files.get(&version).map_or_else(|| self.folder.clone(), |file| file.path.clone());
        match error {
            MigrateError::VersionMismatch(version) => MigrationError::Changed(path(version)),
            MigrateError::VersionMissing(version) => {
                MigrationError::Missing { version, folder: self.folder.clone() }
            }
            MigrateError::ExecuteMigration(sqlx::Error::Database(error), version) => {
                let error = error.downcast_ref::<PgDatabaseError>();
                let sql = self.files.get(&version).map_or("", |file| &file.sql);
                MigrationError::Statement {
                    path: path(version),
                    place: match error.position() {
                        Some(PgErrorPosition::Original(position)) => Some(line_and_column(sql, position)),
                        _ => None,
                    },
                    message: message(error),
                }
            }
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => unusable(error),
            other => unusable(sqlx::Error::Migrate(Box::new(other))),
        }
    }
}

/// The numbers and checksums of the migrations the database has seen.
async fn seen(connection: &mut PgConnection) -> Result<BTreeMap<i64, Vec<u8>>, sqlx::Error> {
    let exists = sqlx::query_scalar("select to_regclass($1) is not null").bind(TABLE);
    if !exists.fetch_one(&mut *connection).await? {
        return Ok(BTreeMap::new());
    }
    let rows = sqlx::query_as::<_, (i64, Vec<u8>)>("select version, checksum from tercet.migrations");
    Ok(rows.fetch_all(connection).await?.into_iter().collect())
}

fn unusable(error: sqlx::Error) -> MigrationError {
    MigrationError::Database(error.into())
}

/// Where the character with this number, from 1, is: its line and column, from 1.
fn line_and_column(sql: &str, position: usize) -> (usize, usize) {
    let before: String = sql.chars().take(position.saturating_sub(1)).collect();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "expect![] is an expression made for the call")]
    fn check(names: &[&str], expected: Expect) {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(folder.path().join(name), "select 1").unwrap();
        }
        let read = match Migrations::read(folder.path()) {
            Ok(migrations) => {
                let each =
                    migrations.files.iter().map(|(version, file)| format!("{version} {}", file.description));
                each.collect::<Vec<_>>().join(", ")
            }
            Err(error) => error.to_string().replace(&folder.path().display().to_string(), "FOLDER"),
        };
        expected.assert_eq(&read);
    }

    #[test]
    fn files_are_ordered_by_number_and_wrong_names_are_refused() {
        check(&["10_b.sql", "9_a_b.sql", "README.md"], expect!["9 a b, 10 b"]);
        check(&[], expect![""]);
        check(
            &["books.sql"],
            expect![
                "FOLDER/books.sql: a migration's name begins with its number; hint: rename it to 0001_books.sql"
            ],
        );
        check(
            &["1_a.sql", "0001_b.sql"],
            expect![
                "FOLDER/0001_b.sql and FOLDER/1_a.sql have the same number; hint: give the newer one the next number"
            ],
        );
        assert_eq!(Migrations::read(Path::new("/nowhere")).unwrap().count(), 0);
    }

    #[test]
    fn positions_count_characters() {
        assert_eq!(line_and_column("select 'é';\n  selec 1", 15), (2, 3));
        assert_eq!(line_and_column("x", 1), (1, 1));
    }
}
