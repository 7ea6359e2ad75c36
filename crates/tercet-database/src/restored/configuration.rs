//! The configuration of the server of a restored cluster.
//!
//! `postgresql.auto.conf` in the data directory, the operator's settings, takes precedence over the configuration file, but not over
//! the command line. So settings that must hold are arguments, and the data directory keeps the operator's for later.

use std::ffi::OsString;
use std::path::Path;
use std::str::FromStr as _;

use jiff::{Timestamp, ToSpan as _};
use tercet_postgres::hba::{self, Method};
use tercet_postgres::quote;

use super::Recovery;
use crate::cluster::configuration::setting;
use crate::cluster::{Cluster, SUPERUSER};

/// The user name map that allows this process's system user to log in as the superuser over the socket.
const MAP: &str = "tercet";

/// Prefixes of the settings that belong to one recovery.
const OF_RECOVERY: [&str; 6] = [
    "recovery_",
    "restore_command",
    "archive_cleanup_command",
    "promote_trigger_file",
    "primary_",
    "standby_",
];

/// The name and text of each file.
pub(super) fn files(
    cluster: &Cluster,
    recovery: Option<&Recovery>,
    user: &str,
) -> [(&'static str, String); 3] {
    let mut settings =
        format!("# Written by tercet at every start.\ndata_directory = {}\n", setting(&cluster.data()));
    if let Some(recovery) = recovery {
        let timeline = recovery.timeline.map_or_else(|| "latest".to_owned(), |number| number.to_string());
        settings.push_str(&format!(
            "restore_command = {}\nrecovery_target_timeline = '{timeline}'\n{}",
            quote::setting(&recovery.restore_command),
            recovery.target.settings(),
        ));
    }
    [
        ("postgresql.conf", settings),
        ("pg_hba.conf", hba::local("all", "all", Method::PeerMap(MAP))),
        ("pg_ident.conf", hba::ident(MAP, &hba::name(user), SUPERUSER)),
    ]
}

/// The arguments of the server (<https://www.postgresql.org/docs/current/app-postgres.html>).
pub(super) fn arguments(
    cluster: &Cluster,
    major: u32,
    preload_libraries: &str,
) -> impl Iterator<Item = OsString> {
    let file = |name| cluster.folder().join("configuration").join(name).into_os_string();
    let fixed = [
        ("listen_addresses", ""),
        ("unix_socket_permissions", "0700"),
        ("ssl", "off"),
        ("hot_standby", "off"),
        // Nothing is archived, but WAL of the new timeline is marked for the archive of the server that takes it over.
        ("archive_mode", "on"),
        ("archive_command", ""),
        ("max_wal_senders", "0"),
        ("synchronous_standby_names", ""),
        ("shared_buffers", "64MB"),
        ("maintenance_work_mem", "64MB"),
        ("max_connections", "20"),
        // Prepared transactions of the backup are recovered, and a dump locks every table.
        ("max_prepared_transactions", "100"),
        ("max_locks_per_transaction", "256"),
        ("autovacuum", "off"),
        ("jit", "off"),
        ("session_preload_libraries", ""),
        ("local_preload_libraries", ""),
        ("logging_collector", "off"),
        ("log_destination", "stderr"),
        ("log_line_prefix", ""),
        ("log_min_messages", "warning"),
        ("log_timezone", "UTC"),
        ("timezone", "UTC"),
        ("lc_messages", "C"),
        ("cluster_name", "restored"),
    ];
    let fixed = fixed.map(|(name, value)| (name, OsString::from(value)));
    let own = [
        ("port", cluster.port().to_string().into()),
        ("unix_socket_directories", quoted(cluster.socket_folder().as_os_str().to_owned())),
        ("hba_file", file("pg_hba.conf")),
        ("ident_file", file("pg_ident.conf")),
        ("shared_preload_libraries", preload_libraries.into()),
    ];
    let library = (major >= 15).then(|| ("archive_library", OsString::new()));
    fixed.into_iter().chain(own).chain(library).flat_map(|(name, value)| {
        let mut argument = OsString::from(format!("{name}="));
        argument.push(value);
        ["-c".into(), argument]
    })
}

/// A path in a list of paths, which are separated by commas.
fn quoted(path: OsString) -> OsString {
    match path.to_str() {
        Some(text) => format!("\"{}\"", text.replace('"', "\"\"")).into(),
        None => path,
    }
}

/// The earliest time that PostgreSQL can recover a backup to: from the second after its start on. `None` if its label has no
/// time in UTC. PostgreSQL itself notices an earlier target only if a transaction was committed during the backup.
pub(super) fn backup_start(data: &Path) -> Option<Timestamp> {
    let label = std::fs::read_to_string(data.join("backup_label")).ok()?;
    let time = label.lines().find_map(|line| line.strip_prefix("START TIME: "))?;
    let time = time.strip_suffix(" UTC").or_else(|| time.strip_suffix(" GMT"))?;
    Timestamp::from_str(&format!("{time}Z")).ok()?.checked_add(1.second()).ok()
}

/// The text of a configuration file without the settings of a recovery.
pub(super) fn without_recovery(text: &str) -> String {
    let is_of_recovery = |line: &str| {
        OF_RECOVERY.iter().any(|prefix| line.trim_start().to_ascii_lowercase().starts_with(prefix))
    };
    text.split_inclusive('\n').filter(|line| !is_of_recovery(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_of_a_recovery_are_removed() {
        let text = "# by hand\nwork_mem = '64MB'\nrestore_command = 'false'\nrecovery_target_time = 'x'\n";
        assert_eq!(without_recovery(text), "# by hand\nwork_mem = '64MB'\n");
    }
}
