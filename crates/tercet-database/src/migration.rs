//! Migrations: the SQL files of a folder, each applied once, in order, in a separate transaction.
//!
//! The table `tercet.migrations`, its checksums (SHA-384 of the file) and the advisory lock are those of sqlx's
//! migrator, which earlier versions used. So databases that it migrated are recognised.

mod script;
mod session;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest as _, Sha384};
use tercet_postgres::{ConnectError, DatabaseError, Target};

pub use self::script::Foreign;
pub(crate) use self::session::Session;
use self::session::{Applied, TABLE};

/// The beginning of a file with a single statement that cannot run in a transaction block, such as
/// `create index concurrently`.
const WITHOUT_TRANSACTION: &str = "-- no-transaction";

/// The minimum TCP user timeout of a migration.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// The migrations of a folder, in order.
#[derive(Debug)]
pub struct Migrations {
    folder: PathBuf,
    files: BTreeMap<i64, File>,
}

/// A SQL file.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) description: String,
    sql: String,
}

/// The `.sql` files of a folder, sorted by name; one that does not exist has none.
pub(crate) fn sql_files(folder: &Path) -> Result<Vec<PathBuf>, MigrationError> {
    let error = |source| MigrationError::File { path: folder.to_owned(), source };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>().map_err(error)?,
        Err(source) if source.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(error(source)),
    };
    let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    paths.sort();
    Ok(paths)
}

impl File {
    /// Reads it; a byte order mark is not part of the text.
    pub(crate) fn read(path: PathBuf, description: String) -> Result<Self, MigrationError> {
        match fs::read_to_string(&path) {
            Ok(mut sql) => {
                if sql.starts_with('\u{feff}') {
                    sql.remove(0);
                }
                Ok(Self { path, description, sql })
            }
            Err(source) => Err(MigrationError::File { path, source }),
        }
    }

    /// The text to send.
    fn script(&self) -> Result<Cow<'_, str>, MigrationError> {
        script::sendable(&self.sql).map_err(|(at, foreign)| MigrationError::Foreign {
            path: self.path.clone(),
            place: line_and_column(&self.sql, self.sql[..at].chars().count() + 1),
            foreign,
        })
    }

    /// SHA-384 of the text, as PostgreSQL reads and writes a `bytea`
    /// (<https://www.postgresql.org/docs/current/datatype-binary.html>).
    pub(crate) fn checksum(&self) -> String {
        Sha384::digest(&self.sql).iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
    }

    fn is_alone(&self) -> bool {
        self.sql.starts_with(WITHOUT_TRANSACTION)
    }

    /// The error of a statement of the file, with line and column if PostgreSQL returned a position.
    fn explain(&self, error: &DatabaseError) -> MigrationError {
        let server = error.server();
        MigrationError::Statement {
            path: self.path.clone(),
            place: server.and_then(|error| error.position).map(|at| line_and_column(&self.sql, at)),
            message: server.map_or_else(|| error.to_string(), tercet_postgres::ServerError::one_line)
                + self.hint(server.map_or("", |error| &error.code)),
        }
    }

    /// The way on after an error with this SQLSTATE (PostgreSQL manual, appendix A), where the file's form is its cause.
    fn hint(&self, code: &str) -> &'static str {
        match code {
            // active_sql_transaction
            "25001" if self.is_alone() => {
                "; hint: a file with -- no-transaction has one statement: move the others to files of their own"
            }
            "25001" => "; hint: put the statement alone into a file whose first line is -- no-transaction",
            _ if self.sql.lines().take(5).any(|line| line.starts_with("-- PostgreSQL database")) => {
                "; hint: a dump fits by pg_dump --inserts --no-owner --no-privileges"
            }
            _ => "",
        }
    }
}

/// The migrations are invalid or failed.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A file or the folder cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file's name does not begin with a version.
    #[error("{}: a migration's name begins with its number; hint: rename it to 0001_{}", .0.display(), suggestion(.0))]
    Name(PathBuf),
    /// Two files have the same version.
    #[error("duplicate migration version: {}, {}; hint: give the newer file the next number", .0.display(), .1.display())]
    Twice(PathBuf, PathBuf),
    /// A file was changed after it was applied.
    #[error(
        "{}: it has been applied already, and its text was different then; \
         hint: put the old text back, and write what is new as a migration of its own", .0.display()
    )]
    Changed(PathBuf),
    /// The file of an applied migration is missing.
    #[error(
        "migration {version} has been applied already, and its file is no longer in {}; hint: put it back",
        folder.display()
    )]
    Missing {
        /// The migration's version.
        version: i64,
        /// The folder of the migrations.
        folder: PathBuf,
    },
    /// The table records a failed migration. tercet writes no such record.
    #[error(
        "migration {version} is recorded as failed in {TABLE}; \
         hint: delete the record if nothing of the migration is in the database"
    )]
    Failed {
        /// The migration's version.
        version: i64,
    },
    /// A statement failed. The transaction of its file, if it has one, was rolled back.
    #[error("{}{}: {message}", path.display(), Place(*.place))]
    Statement {
        /// The file.
        path: PathBuf,
        /// Line and column of the error, from 1, if PostgreSQL returned a position.
        place: Option<(usize, usize)>,
        /// PostgreSQL's message, with detail and hint.
        message: String,
    },
    /// A file has a part that PostgreSQL cannot run in the file's transaction. Nothing was applied.
    #[error("{}{}: {foreign}", path.display(), Place(Some(*place)))]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its line and column, from 1.
        place: (usize, usize),
        /// The part.
        foreign: Foreign,
    },
    /// The database cannot be reached or used.
    #[error("migrations could not be applied: {0}")]
    Database(DatabaseError),
}

impl From<DatabaseError> for MigrationError {
    fn from(error: DatabaseError) -> Self {
        Self::Database(error)
    }
}

impl From<ConnectError> for MigrationError {
    fn from(error: ConnectError) -> Self {
        Self::Database(error.into())
    }
}

impl MigrationError {
    /// Whether the database does not exist (yet).
    pub fn is_no_database(&self) -> bool {
        // PostgreSQL manual, appendix A: invalid_catalog_name.
        matches!(self, Self::Database(DatabaseError::Connect(error)) if error.sqlstate.as_deref() == Some("3D000"))
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

/// The advisory lock of all migrators of a database, held until this is dropped.
pub struct Lock(Session);

impl Lock {
    /// Acquires it, after any other migrator has finished. Must be called on a `LocalSet`.
    ///
    /// # Errors
    /// The database cannot be reached.
    pub async fn acquire(database: &Target) -> Result<Self, MigrationError> {
        let session = Session::begin(&Arc::new(database.clone())).await?;
        session.lock().await?;
        Ok(Self(session))
    }

    /// Releases it.
    ///
    /// # Errors
    /// The connection is lost, and the lock with it.
    pub async fn release(self) -> Result<(), MigrationError> {
        Ok(self.0.unlock().await?)
    }
}

impl Migrations {
    /// Reads the `.sql` files of a folder: `0001_books.sql`, `20260131_authors.sql`. Other files are not migrations.
    /// A folder that does not exist has none.
    ///
    /// # Errors
    /// A file has no version or that of another file, or cannot be read.
    pub fn read(folder: &Path) -> Result<Self, MigrationError> {
        let mut files = BTreeMap::new();
        for path in sql_files(folder)? {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let digits = stem.find(|c: char| !c.is_ascii_digit()).unwrap_or(stem.len());
            let (number, rest) = stem.split_at(digits);
            let Ok(version) = number.parse() else { return Err(MigrationError::Name(path)) };
            let description = rest.trim_start_matches(['_', '-']).replace(['_', '-'], " ");
            let file = File::read(path.clone(), description)?;
            if let Some(File { path: other, .. }) = files.insert(version, file) {
                return Err(MigrationError::Twice(other, path));
            }
        }
        Ok(Self { folder: folder.to_owned(), files })
    }

    /// The number of migrations.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// Applies the pending migrations, after any other migrator has finished, and returns their number. Must be
    /// called on a `LocalSet`, like [`Migrations::pending`].
    ///
    /// # Errors
    /// See [`MigrationError`]. The migrations before the failed one stay applied.
    pub async fn apply(&self, database: &Target) -> Result<u64, MigrationError> {
        if self.files.is_empty() {
            return Ok(0);
        }
        // A migration may take long, and a short interruption of the network should not end it.
        let user_timeout = database.user_timeout.map(|limit| limit.max(USER_TIMEOUT));
        let session = Session::begin(&Arc::new(Target { user_timeout, ..database.clone() })).await?;
        session.lock().await?;
        session.create_table().await?;
        let unseen = self.unseen(&session.applied().await?)?;
        for (version, file) in &unseen {
            session.apply(*version, file).await?;
        }
        session.unlock().await?;
        Ok(unseen.len() as u64)
    }

    /// The files of the pending migrations, in order. Changes nothing.
    ///
    /// # Errors
    /// The file of an applied migration was changed or is missing, or the database cannot be read.
    pub async fn pending(&self, database: &Target) -> Result<Vec<&Path>, MigrationError> {
        let session = Session::begin(&Arc::new(database.clone())).await?;
        let unseen = self.unseen(&session.applied().await?)?;
        Ok(unseen.into_iter().map(|(_, file)| file.path.as_path()).collect())
    }

    /// The files of the pending migrations. Those of the applied ones must exist and be unchanged.
    fn unseen(&self, applied: &BTreeMap<i64, Applied>) -> Result<Vec<(i64, &File)>, MigrationError> {
        if let Some((version, _)) = applied.iter().find(|(_, applied)| !applied.success) {
            return Err(MigrationError::Failed { version: *version });
        }
        for (version, applied) in applied {
            match self.files.get(version) {
                None => {
                    return Err(MigrationError::Missing { version: *version, folder: self.folder.clone() });
                }
                Some(file) if file.checksum() != applied.checksum => {
                    return Err(MigrationError::Changed(file.path.clone()));
                }
                Some(_) => {}
            }
        }
        let unseen = self.files.iter().filter(|(version, _)| !applied.contains_key(version));
        unseen.map(|(version, file)| file.script().map(|_| (*version, file))).collect()
    }

    /// The state of each migration, of the folder or recorded, in order. Changes nothing.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn status(&self, database: &Target) -> Result<Vec<Status>, MigrationError> {
        let applied = Session::begin(&Arc::new(database.clone())).await?.applied().await?;
        let versions: BTreeSet<i64> = self.files.keys().chain(applied.keys()).copied().collect();
        let status = |version: i64| {
            let (file, record) = (self.files.get(&version), applied.get(&version));
            let state = match (file, record) {
                (_, Some(record)) if !record.success => State::Failed,
                (None, _) => State::Missing,
                (Some(_), None) => State::Pending,
                (Some(file), Some(record)) if file.checksum() != record.checksum => State::Changed,
                (Some(_), Some(_)) => State::Applied,
            };
            Status {
                version,
                title: file.map_or_else(
                    || record.map(|record| record.description.clone()).unwrap_or_default(),
                    |file| file.description.clone(),
                ),
                file: file.map(|file| file.path.clone()),
                applied: record.map(|record| record.installed_on.clone()),
                state,
            }
        };
        Ok(versions.into_iter().map(status).collect())
    }

    /// The name of the next migration's file: the number after the last, with as many digits.
    pub fn next_name(&self, title: &str) -> String {
        let last = self.files.iter().next_back();
        let digits = last.and_then(|(_, file)| {
            let name = file.path.file_name()?.to_string_lossy().into_owned();
            Some(name.chars().take_while(char::is_ascii_digit).count())
        });
        let number = last.map_or(1, |(version, _)| version.saturating_add(1));
        let words: Vec<String> = title
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(str::to_lowercase)
            .collect();
        format!("{number:0width$}_{}.sql", words.join("_"), width = digits.unwrap_or(4))
    }
}

/// A migration and whether it was applied.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Its version.
    pub version: i64,
    /// Its title, from the name of its file.
    pub title: String,
    /// Its file; `None` if that is missing.
    pub file: Option<PathBuf>,
    /// When it was applied (RFC 3339, UTC).
    pub applied: Option<String>,
    /// Its state.
    pub state: State,
}

/// The state of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It was applied, and its file is the same.
    Applied,
    /// It was not applied yet.
    Pending,
    /// Its file was changed after it was applied.
    Changed,
    /// It was applied, and its file is missing.
    Missing,
    /// It is recorded as failed.
    Failed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Applied => "applied",
            Self::Pending => "pending",
            Self::Changed => "changed",
            Self::Missing => "missing",
            Self::Failed => "failed",
        })
    }
}

/// The line and column, from 1, of the character at `position`, from 1.
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
                "duplicate migration version: FOLDER/0001_b.sql, FOLDER/1_a.sql; hint: give the newer file the next number"
            ],
        );
        assert_eq!(Migrations::read(Path::new("/nowhere")).unwrap().count(), 0);
    }

    #[test]
    fn the_next_migration_has_the_next_number() {
        let folder = tempfile::tempdir().unwrap();
        let next = |title: &str| Migrations::read(folder.path()).unwrap().next_name(title);
        assert_eq!(next("Add a book's shelf!"), "0001_add_a_book_s_shelf.sql");
        fs::write(folder.path().join("20260131_a.sql"), "\u{feff}select 1").unwrap();
        assert_eq!(next("b"), "20260132_b.sql");
    }

    #[test]
    fn positions_count_characters() {
        assert_eq!(line_and_column("select 'é';\n  selec 1", 15), (2, 3));
        assert_eq!(line_and_column("x", 1), (1, 1));
    }
}
