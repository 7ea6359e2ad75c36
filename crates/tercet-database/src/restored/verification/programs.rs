//! The checks that are programs of PostgreSQL.

use std::ffi::OsString;
use std::process::{Output, Stdio};

use tercet_postgres::Connection;
use tercet_postgres::quote::identifier;

use super::super::{RestoredCluster, Server};
use super::{Check, Finding, sql};
use crate::cluster::SUPERUSER;
use crate::program::Program;

/// The most lines of a program's output in a finding: the first ones name the place.
const LINES: usize = 8;

/// The connection options of a client program. Settings of a role or database must not end it.
const OPTIONS: &str = "-c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0";

/// Runs a program; `client` connects it to the server.
async fn run(
    restored: &RestoredCluster,
    name: &str,
    arguments: &[&str],
    client: Option<&Server<'_>>,
) -> Result<Output, String> {
    let installation = restored.installation();
    let path = installation.program(name);
    let mut environment = installation.environment();
    let mut arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
    // A client is this process's user, whom the server lets in; the others read PostgreSQL's files.
    let account = match client {
        Some(server) => {
            let port = restored.cluster.port().to_string();
            arguments.extend(["-h".into(), server.socket_folder().as_os_str().to_owned()]);
            arguments.extend(["-p".into(), port.into(), "-U".into(), SUPERUSER.into()]);
            environment.push(("PGOPTIONS".into(), OPTIONS.into()));
            crate::Account::current().map_err(|error| error.to_string())?
        }
        None => restored.cluster.account().clone(),
    };
    let program = Program { path, arguments, environment, folder: restored.data(), account };
    tokio::process::Command::from(program.command())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("{}: {error}", program.path.display()))
}

/// The first lines of a program's output, for a finding.
fn complaint(name: &str, output: &Output) -> String {
    let texts = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)];
    let lines: Vec<&str> =
        texts.iter().flat_map(|text| text.lines()).map(str::trim).filter(|line| !line.is_empty()).collect();
    let more = lines.len().saturating_sub(LINES);
    let mut text = lines[..lines.len() - more].join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more lines"));
    }
    if text.is_empty() { format!("{name}: {}", output.status) } else { format!("{name}: {text}") }
}

/// Checks every table and B-tree index with the extension amcheck, which the copy does not keep
/// (<https://www.postgresql.org/docs/current/app-pgamcheck.html>).
pub(super) async fn relations(server: &Server<'_>) -> Finding {
    const CHECK: Check = Check::Relations;
    let restored = server.cluster();
    if !restored.installation().program("pg_amcheck").exists() {
        return Finding::warning(
            CHECK,
            format!("not checked: PostgreSQL {} has no pg_amcheck", restored.installation().version),
        );
    }
    let without = match without_amcheck(server).await {
        Ok(without) => without,
        Err(cause) => return Finding::failed(CHECK, cause),
    };
    let arguments = ["--all", "--heapallindexed", "--parent-check", "--install-missing", "--no-password"];
    let finding = match run(restored, "pg_amcheck", &arguments, Some(server)).await {
        Ok(output) if output.status.success() => Finding::passed(CHECK, "no corruption"),
        Ok(output) => Finding::failed(CHECK, complaint("pg_amcheck", &output)),
        Err(cause) => Finding::failed(CHECK, cause),
    };
    for database in without {
        if let Ok(connection) = Connection::connect(&sql::superuser(server, &database), false).await {
            // An extension that stays behind does no harm.
            let _ = connection
                .simple_query("set client_min_messages to warning; drop extension if exists amcheck")
                .await;
        }
    }
    finding
}

/// The databases that do not have the extension.
async fn without_amcheck(server: &Server<'_>) -> Result<Vec<String>, String> {
    let mut without = Vec::new();
    for database in databases(server).await? {
        let target = sql::superuser(server, &database);
        let connection = Connection::connect(&target, false).await.map_err(|error| error.to_string())?;
        let query = "select from pg_extension where extname = 'amcheck'";
        if connection.query(&query.into()).await.map_err(|error| error.to_string())?.is_empty() {
            without.push(database);
        }
    }
    Ok(without)
}

/// The databases that accept connections.
async fn databases(server: &Server<'_>) -> Result<Vec<String>, String> {
    let target = sql::superuser(server, "postgres");
    let connection = Connection::connect(&target, false).await.map_err(|error| error.to_string())?;
    let query = "select datname from pg_database where datallowconn order by datname";
    let rows = connection.query(&query.into()).await.map_err(|error| error.to_string())?;
    Ok(rows.iter().filter_map(|row| row.text(0)).map(str::to_owned).collect())
}

/// Dumps the schema of every database: it reads the whole catalogue, and needs the libraries of the extensions.
pub(super) async fn schema(server: &Server<'_>) -> Finding {
    const CHECK: Check = Check::Schema;
    let databases = match databases(server).await {
        Ok(databases) => databases,
        Err(cause) => return Finding::failed(CHECK, cause),
    };
    for database in &databases {
        let name = format!("--dbname=dbname={}", connection_value(database));
        let arguments = ["--schema-only", "--no-password", "--file=/dev/null", &name];
        match run(server.cluster(), "pg_dump", &arguments, Some(server)).await {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                let cause = format!("database {}: {}", identifier(database), complaint("pg_dump", &output));
                return Finding::failed(CHECK, cause);
            }
            Err(cause) => return Finding::failed(CHECK, cause),
        }
    }
    Finding::passed(CHECK, format!("{} databases dumped", databases.len()))
}

/// A value of a connection string.
fn connection_value(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Checks the checksum of every page of the cluster, whose server is stopped
/// (<https://www.postgresql.org/docs/current/app-pgchecksums.html>).
pub(super) async fn checksums(restored: &RestoredCluster) -> Finding {
    const CHECK: Check = Check::Checksums;
    let data = restored.data();
    match run(restored, "pg_checksums", &["--check", "--pgdata", &data.to_string_lossy()], None).await {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            let blocks =
                text.lines().find_map(|line| line.strip_prefix("Blocks scanned:")).unwrap_or("all").trim();
            Finding::passed(CHECK, format!("{blocks} pages"))
        }
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains("checksums are not enabled") => {
            Finding::warning(CHECK, "not checked: the cluster has no data checksums")
        }
        Ok(output) => Finding::failed(CHECK, complaint("pg_checksums", &output)),
        Err(cause) => Finding::failed(CHECK, cause),
    }
}
