//! The migration by a user's own program (`migrate` in `[application]`): once for each release, on one application machine, as the
//! owner of the database.
//!
//! The owner has a password only meanwhile: [`OwnerLogin`] sets it, and takes it away. `pg_hba.conf` accepts it from that machine, with
//! a certificate of the project's authority.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tercet_database::roles;
use tercet_machine::Secret;
use tercet_postgres::{Connection, Verifier, quote};
use tokio::task::LocalSet;

use crate::libpq;
use crate::migrate::target_of;
use crate::paths::RUNTIME;
use crate::release::{Kind, Release};
use crate::sandbox::{self, Sandbox};

/// How long the owner's password is valid, if nothing takes it away before.
const VALID: SignedDuration = SignedDuration::from_hours(1);

/// The login of the database's owner over the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerLogin {
    /// The database.
    pub database: String,
    /// The port its cluster's Unix socket is named after.
    pub port: u16,
    /// The password; without one the owner cannot log in, and its sessions over the network end.
    pub password: Option<Secret>,
}

/// What a program migrates with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramMigration {
    /// The release, which has the command.
    pub release: Release,
    /// The certificates and the key of the machine, by name, as systemd credentials.
    pub credentials: Vec<(String, Secret)>,
    /// The lines of its environment file, with the owner's `DATABASE_URL`.
    pub environment: Secret,
    /// What must not be shown of its output.
    pub password: Secret,
}

impl OwnerLogin {
    /// Sets it. Only `postgres` can.
    ///
    /// # Errors
    /// PostgreSQL refuses.
    pub(crate) fn set(&self) -> Result<()> {
        let role = roles::owner(&self.database);
        let name = quote::identifier(&role);
        let sql = match &self.password {
            Some(password) => {
                let verifier = Verifier::of(password.reveal());
                let until = (Timestamp::now() + VALID).to_string();
                format!(
                    "alter role {name} password {} valid until {}",
                    quote::literal(verifier.reveal()),
                    quote::literal(&until)
                )
            }
            None => format!(
                "alter role {name} password null valid until 'infinity'; \
                 select pg_terminate_backend(pid) from pg_stat_activity where usename = {} and client_addr is not null",
                quote::literal(&role)
            ),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, async {
            let superuser = target_of(&self.database, self.port, "postgres");
            Ok(Connection::connect(&superuser.into(), false).await?.simple_query(&sql).await.map(drop)?)
        })
    }
}

impl ProgramMigration {
    /// Runs the command in a transient unit, as the user of builds: servers that clients reach must not see the password.
    ///
    /// # Errors
    /// It fails; its last lines are in the error.
    pub(crate) fn run(&self) -> Result<()> {
        let Kind::Own { migrate: Some(migrate), variables, .. } = &self.release.kind else { return Ok(()) };
        let release = self.release.folder();
        let folder = release.join("program");
        ensure!(self.release.record().exists(), "{} is not complete\nhint: apply again", release.display());
        // One whose operator has disconnected.
        sandbox::stop_all()?;
        let files = tempfile::Builder::new().prefix("migrate-").tempdir_in(RUNTIME)?;
        let unit = sandbox::unit(&format!("migrate-{}", self.release.id));
        let mut properties = Vec::new();
        for (name, secret) in &self.credentials {
            let path = write(files.path(), name, secret)?;
            properties.push(format!("LoadCredential={name}:{}", path.display()));
        }
        let environment = write(files.path(), "environment", &self.environment)?;
        properties.push(format!("EnvironmentFile={}", environment.display()));
        let mut own = vec![("HOME".to_owned(), release.join("home").display().to_string())];
        own.extend(variables.clone());
        own.extend(libpq::variables(&unit).map(|(name, value)| (name.to_owned(), value)));
        let sandbox = Sandbox {
            name: "migrate",
            files: "in the release's folder, which is read-only",
            unit,
            folder: &folder,
            properties,
            variables: own,
            hidden: Some(self.password.reveal()),
        };
        sandbox.run(&migrate.words("", 0))
    }
}

/// Writes a file that root alone may read.
fn write(folder: &Path, name: &str, secret: &Secret) -> Result<PathBuf> {
    let path = folder.join(name);
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(secret.reveal().as_bytes()).with_context(|| path.display().to_string())?;
    Ok(path)
}
