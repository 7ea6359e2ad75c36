//! Migrations: the SQL files of a folder, each applied once, in order, in a transaction of its own.
//!
//! The table `tercet.migrations`, its checksums (SHA-384 of the file) and the advisory lock are those of sqlx's migrator,
//! which was used before: databases that it migrated are recognised.

mod session;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha384};
use tercet_postgres::{ConnectError, DatabaseError, Target};

use self::session::{Applied, Session, TABLE};

/// How a file begins that holds a single statement which allows no transaction around it, such as
/// `create index concurrently`.
const WITHOUT_TRANSACTION: &str = "-- no-transaction";

/// How long a server may acknowledge nothing, at least, before a migration is given up.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

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
    /// SHA-384 of the text, as PostgreSQL reads and writes a `bytea`
    /// (<https://www.postgresql.org/docs/current/datatype-binary.html>).
    fn checksum(&self) -> String {
        Sha384::digest(&self.sql).iter().fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
    }

    fn is_alone(&self) -> bool {
        self.sql.starts_with(WITHOUT_TRANSACTION)
    }

    /// What failed while it was run, by its line and column where PostgreSQL tells.
    fn explain(&self, error: &DatabaseError) -> MigrationError {
        let server = error.server();
        MigrationError::Statement {
            path: self.path.clone(),
            place: server.and_then(|error| error.position).map(|at| line_and_column(&self.sql, at)),
            message: server.map_or_else(|| error.to_string(), tercet_postgres::ServerError::one_line),
        }
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
    /// A record of a migration that failed. tercet writes none.
    #[error(
        "migration {version} is recorded as failed in {TABLE}; \
         hint: delete the record if nothing of the migration is in the database"
    )]
    Failed {
        /// Its number.
        version: i64,
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
    /// Whether there is no such database (yet).
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

    /// Applies those the database has not seen, after any other migrator is done; returns how many there were. Must be called
    /// on a `LocalSet`, like [`Migrations::pending`].
    ///
    /// # Errors
    /// See [`MigrationError`]. What came before the failing file stays applied.
    pub async fn apply(&self, database: &Target) -> Result<u64, MigrationError> {
        if self.files.is_empty() {
            return Ok(0);
        }
        // A migration may take long, and is not to end with a short interruption of the network.
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

    /// The files the database has not seen, in order. Changes nothing.
    ///
    /// # Errors
    /// What it has seen is another text or no longer there, or it cannot be read.
    pub async fn pending(&self, database: &Target) -> Result<Vec<&Path>, MigrationError> {
        let session = Session::begin(&Arc::new(database.clone())).await?;
        let unseen = self.unseen(&session.applied().await?)?;
        Ok(unseen.into_iter().map(|(_, file)| file.path.as_path()).collect())
    }

    /// The files that are not among the applied ones, which must be here and unchanged.
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
        Ok(unseen.map(|(version, file)| (*version, file)).collect())
    }
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
