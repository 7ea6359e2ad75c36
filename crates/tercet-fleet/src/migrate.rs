//! Migrations. They run on the database machine, since PostgreSQL accepts no administrative connection from another.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tercet_database::RecoveryTarget;
use tercet_database::migration::Migrations;
use tercet_database::roles;
use tercet_postgres::{Connection, Host, Target, quote};
use tokio::task::LocalSet;

/// Where Debian's PostgreSQL has its Unix sockets.
pub(crate) const SOCKETS: &str = "/var/run/postgresql";

/// The migrations to apply and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrate {
    /// The database.
    pub database: String,
    /// The port its cluster's Unix socket is named after.
    pub port: u16,
    /// The files: name and text.
    pub files: Vec<(String, String)>,
    /// Whether `authenticated` may use the tables that the owner creates; `None` leaves the privileges as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<bool>,
}

impl Migrate {
    /// Reads the project's migrations.
    ///
    /// # Errors
    /// The folder or a file cannot be read, or has no number.
    pub fn read(folder: &Path, database: &str, port: u16, grants: Option<bool>) -> Result<Self> {
        // Refused here already if their names are wrong.
        Migrations::read(folder)?;
        let mut files = Vec::new();
        if folder.exists() {
            for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "sql") {
                    let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
                    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                    files.push((name, text));
                }
            }
        }
        files.sort();
        Ok(Self { database: database.to_owned(), port, files, grants })
    }

    /// Whether there is a PostgreSQL to migrate, on this machine.
    pub(crate) fn has_cluster(&self) -> bool {
        Path::new(SOCKETS).join(format!(".s.PGSQL.{}", self.port)).exists()
    }

    /// How far a database is that is not there.
    pub(crate) fn nothing_there(&self) -> DatabaseState {
        DatabaseState { prepared: false, pending: self.files.iter().map(|(name, _)| name.clone()).collect() }
    }
}

/// How far a project's database is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseState {
    /// Whether the database exists and the roles have their privileges in it.
    pub prepared: bool,
    /// The names of the migrations that are new.
    pub pending: Vec<String>,
}

/// Applies them, after a restore point with the name of the release they are for; how many were new. Only `postgres` can:
/// PostgreSQL knows it by the socket.
pub(crate) fn apply(migrate: &Migrate, release: &str) -> Result<u64> {
    with_files(migrate, async |migrations| {
        let name = RecoveryTarget::restore_point(release);
        let connection = Connection::connect(&target(migrate, "postgres").into(), false).await?;
        let point = format!("select pg_create_restore_point({})", quote::literal(&name));
        connection.query(&point.as_str().into()).await?;
        roles::grant_once(&target(migrate, "postgres").into(), &migrate.database).await?;
        let owner = target(migrate, &roles::owner(&migrate.database));
        if let Some(granted) = migrate.grants {
            roles::set_default_grants(&owner, granted).await?;
        }
        Ok(migrations.apply(&owner).await?)
    })
}

/// How far the database is. Only `postgres` can ask.
pub(crate) fn state(migrate: &Migrate) -> Result<DatabaseState> {
    with_files(migrate, async |migrations| match migrations.pending(&target(migrate, "postgres")).await {
        Ok(paths) => {
            let names = paths.iter().filter_map(|path| path.file_name());
            let pending = names.map(|name| name.to_string_lossy().into_owned()).collect();
            let superuser = target(migrate, "postgres").into();
            let granted = match migrate.grants {
                None => true,
                Some(wanted) => roles::has_default_grants(&superuser, &migrate.database).await? == wanted,
            };
            Ok(DatabaseState { prepared: granted && roles::are_granted(&superuser).await?, pending })
        }
        Err(error) if error.is_no_database() => Ok(migrate.nothing_there()),
        Err(error) => Err(error.into()),
    })
}

fn target(migrate: &Migrate, role: &str) -> Target {
    target_of(&migrate.database, migrate.port, role)
}

/// A database on this machine, as a role.
pub(crate) fn target_of(database: &str, port: u16, role: &str) -> Target {
    Target::new(Host::socket(Path::new(SOCKETS), port), database, role)
}

/// Writes the files to a temporary folder and calls `work` with it.
fn with_files<R>(migrate: &Migrate, work: impl AsyncFnOnce(Migrations) -> Result<R>) -> Result<R> {
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700))?;
    for (name, text) in &migrate.files {
        if Path::new(name).components().count() != 1 {
            bail!("{name}: not a file name");
        }
        std::fs::write(folder.path().join(name), text)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let migrations = Migrations::read(folder.path())?;
    LocalSet::new().block_on(&runtime, work(migrations)).map_err(|error| {
        // The person knows the file by its own folder, not by the one it is read from here.
        anyhow::anyhow!(error.to_string().replace(&format!("{}/", folder.path().display()), ""))
    })
}
