//! Seeds: SQL files with example rows for a development database, each applied once, after the migrations.
//!
//! A database gets seeds only if it was empty when they were [announced](Seeds::announce): the table `tercet.seeds`, the
//! record of those applied, is created then and never later.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tercet_postgres::Target;

use crate::migration::{File, MigrationError, Session, sql_files};

/// The record of applied seeds.
const CREATE: &str = "
create table if not exists tercet.seeds (
    name text primary key,
    checksum bytea not null,
    installed_on timestamptz not null default now()
)";

/// The seeds of a folder, by name.
#[derive(Debug, Default)]
pub struct Seeds {
    files: Vec<File>,
}

/// What [`Seeds::apply`] did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The number of files that were applied.
    pub count: u64,
    /// The files that were applied earlier with another text.
    pub changed: Vec<PathBuf>,
    /// Whether there are seeds and the database is not marked for them: none was applied.
    pub ignored: bool,
}

impl Seeds {
    /// Reads the `.sql` files of a folder; one that does not exist has none.
    ///
    /// # Errors
    /// A file or the folder cannot be read.
    pub fn read(folder: &Path) -> Result<Self, MigrationError> {
        let named = |path: PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            File::read(path, name)
        };
        Ok(Self { files: sql_files(folder)?.into_iter().map(named).collect::<Result<_, _>>()? })
    }

    /// Marks the database for seeds if no migration was applied to it yet. Must be called on a `LocalSet`, like
    /// [`Seeds::apply`].
    ///
    /// # Errors
    /// The database cannot be read or changed.
    pub async fn announce(&self, database: &Target) -> Result<(), MigrationError> {
        let session = Session::begin(&Arc::new(database.clone())).await?;
        if !self.files.is_empty() && session.applied().await?.is_empty() {
            session.execute(CREATE).await?;
        }
        Ok(())
    }

    /// Applies the seeds that were not applied before, each as a migration, if the database was marked.
    ///
    /// # Errors
    /// A statement fails; the files before it stay applied.
    pub async fn apply(&self, database: &Target) -> Result<Applied, MigrationError> {
        let mut done = Applied::default();
        if self.files.is_empty() {
            return Ok(done);
        }
        let session = Session::begin(&Arc::new(database.clone())).await?;
        let Some(recorded) = session.seeds().await? else {
            return Ok(Applied { ignored: true, ..done });
        };
        for file in &self.files {
            match recorded.get(&file.description) {
                Some(checksum) if *checksum == file.checksum() => {}
                Some(_) => done.changed.push(file.path.clone()),
                None => {
                    session.plant(file).await?;
                    done.count += 1;
                }
            }
        }
        Ok(done)
    }
}
