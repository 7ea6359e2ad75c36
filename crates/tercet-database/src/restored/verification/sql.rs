//! The checks that are queries.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tercet_postgres::{Connection, DatabaseError, Target};

use super::super::Server;
use super::{Check, Finding};
use crate::catalogue::Catalogue;
use crate::heartbeat;

/// Settings of a role or database must not end a check.
const SESSION: &str = "-c statement_timeout=0 -c lock_timeout=0";

/// A superuser of a database of the restored copy.
pub(super) fn superuser(server: &Server<'_>, database: &str) -> Arc<Target> {
    Arc::new(Target { options: Some(SESSION.to_owned()), ..server.superuser(database) })
}

/// Compares the heartbeat with the time that the check began. The second value is its age then in seconds.
pub(super) async fn heartbeat(
    server: &Server<'_>,
    database: &str,
    began: Timestamp,
    limit: Duration,
) -> (Finding, Option<f64>) {
    const CHECK: Check = Check::Heartbeat;
    let at = match heartbeat::last(&superuser(server, database)).await {
        Ok(Some(at)) => at,
        Ok(None) => return (Finding::failed(CHECK, "the restored copy has no heartbeat"), None),
        Err(error) => {
            return (Finding::failed(CHECK, format!("the heartbeat cannot be read: {error}")), None);
        }
    };
    // A heartbeat during the check is later than its beginning.
    let seconds = began.duration_since(at).as_secs_f64().max(0.0);
    let limit = limit.as_secs_f64();
    let finding = if seconds > limit {
        let cause = format!(
            "the last heartbeat in the archive, {at}, is {seconds:.0} s older than the check, and may be {limit:.0} s: \
             later transactions are not in the archive"
        );
        Finding::failed(CHECK, cause)
    } else {
        Finding::passed(CHECK, format!("{seconds:.0} s old"))
    };
    (finding, Some(seconds))
}

/// Compares the catalogue with that of the live cluster.
pub(super) async fn catalogue(server: &Server<'_>, database: &str, live: &Catalogue) -> Finding {
    const CHECK: Check = Check::Catalogue;
    let restored = match Catalogue::read(&superuser(server, database)).await {
        Ok(restored) => restored,
        Err(error) => return Finding::failed(CHECK, format!("the catalogue cannot be read: {error}")),
    };
    let (missing, differences) = (restored.missing(live), restored.differences(live));
    if !missing.is_empty() {
        Finding::failed(CHECK, missing.join("; "))
    } else if !differences.is_empty() {
        Finding::warning(CHECK, differences.join("; "))
    } else {
        let (databases, roles) = (restored.databases.len(), restored.roles.len());
        Finding::passed(
            CHECK,
            format!("{databases} databases, {roles} roles, {} tables", restored.tables.len()),
        )
    }
}

/// Runs the project's own checks, each in a read-only transaction. The result of each must be one row, one column, true.
pub(super) async fn own_checks(server: &Server<'_>, database: &str, folder: &Path) -> Vec<Finding> {
    const CHECK: Check = Check::OwnCheck;
    let files = match own_files(folder) {
        Ok(files) => files,
        Err(error) => return vec![Finding::failed(CHECK, format!("{}: {error}", folder.display()))],
    };
    let mut findings = Vec::new();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        findings.push(match own_check(server, database, &path).await {
            Ok(()) => Finding::passed(CHECK, name),
            Err(cause) => Finding::failed(CHECK, format!("{name}: {cause}")),
        });
    }
    findings
}

fn own_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    Ok(files)
}

async fn own_check(server: &Server<'_>, database: &str, path: &Path) -> Result<(), String> {
    let sql = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let said = |error: DatabaseError| {
        error.server().map_or_else(|| error.to_string(), tercet_postgres::ServerError::one_line)
    };
    let connection =
        Connection::connect(&superuser(server, database), false).await.map_err(|error| error.to_string())?;
    connection.simple_query("begin transaction read only").await.map_err(said)?;
    let rows = connection.query(&sql.as_str().into()).await.map_err(said)?;
    let [row] = &rows[..] else {
        return Err(format!("its result has {} rows, and must have one", rows.len()));
    };
    if row.len() != 1 {
        return Err(format!("its result has {} columns, and must have one", row.len()));
    }
    match row.text(0) {
        Some("t" | "true") => Ok(()),
        Some(value) => Err(format!("its result is {}", value.chars().take(100).collect::<String>())),
        None => Err("its result is null".to_owned()),
    }
}
