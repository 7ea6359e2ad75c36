//! Migrations on the database machine: PostgreSQL is nobody else's to reach, so that is where they run.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tercet_database::migration::Migrations;
use tercet_database::roles;

use crate::agent::{Reply, Request};

/// Where Debian's PostgreSQL has its Unix sockets.
const SOCKETS: &str = "/var/run/postgresql";

/// The migrations to apply and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Migrate {
    /// The database.
    pub database: String,
    /// The port its cluster's Unix socket is named after.
    pub port: u16,
    /// The files: name and text.
    pub files: Vec<(String, String)>,
}

impl Migrate {
    /// Reads the project's migrations.
    ///
    /// # Errors
    /// The folder or a file cannot be read, or has no number.
    pub fn read(folder: &Path, database: &str, port: u16) -> Result<Self> {
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
        Ok(Self { database: database.to_owned(), port, files })
    }
}

/// Applies them; how many were new. Root becomes `postgres` for it, whom PostgreSQL knows by the socket.
pub(crate) fn serve(migrate: &Migrate) -> Result<u64> {
    if rustix::process::geteuid().is_root() { as_postgres(migrate) } else { apply(migrate) }
}

fn as_postgres(migrate: &Migrate) -> Result<u64> {
    let request = serde_json::to_vec(&Request::Migrate(migrate.clone()))?;
    let mut child = Command::new("runuser")
        .args(["-u", "postgres", "--"])
        .arg(std::env::current_exe()?)
        .arg("machine")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("runuser")?;
    let mut stdin = child.stdin.take().expect("standard input is piped");
    std::io::Write::write_all(&mut stdin, &request)?;
    drop(stdin);
    let output = child.wait_with_output()?;
    match serde_json::from_slice(&output.stdout).context("the migration ended without an answer")? {
        Reply::Migrated(count) => Ok(count),
        Reply::Failed { message } => bail!("{message}"),
        _ => bail!("the migration gave another answer"),
    }
}

fn apply(migrate: &Migrate) -> Result<u64> {
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700))?;
    for (name, text) in &migrate.files {
        if Path::new(name).components().count() != 1 {
            bail!("{name}: not a file name");
        }
        std::fs::write(folder.path().join(name), text)?;
    }
    let connect = |role: &str, database: &str| {
        tercet_database::cluster::by_socket(Path::new(SOCKETS), migrate.port, role, database)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        roles::grant_once(&connect("postgres", &migrate.database), &migrate.database).await?;
        let owner = connect(&roles::owner(&migrate.database), &migrate.database);
        Migrations::read(folder.path())?.apply_as(&owner).await.map_err(|error| {
            // The person knows the file by its own folder, not by the one it is read from here.
            anyhow::anyhow!(error.to_string().replace(&format!("{}/", folder.path().display()), ""))
        })
    })
}
