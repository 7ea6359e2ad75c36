//! The text of `postgresql.conf`, `pg_hba.conf` and `pg_ident.conf`.
//!
//! The files are rewritten at every start, outside the data directory. PostgreSQL can read but not change them.
//! `ALTER SYSTEM` stores an operator's settings in the data directory.

use std::net::Ipv4Addr;
use std::path::Path;

use tercet_postgres::hba::{self, Method, Transport};
use tercet_postgres::quote;

use super::SUPERUSER;
use crate::roles::{self, AUTHENTICATOR};

/// The user name map that allows a system user to log in as the superuser over the socket.
const MAP: &str = "tercet";

/// The parameters of the files.
#[derive(Clone, Copy, Debug)]
pub struct Configuration<'a> {
    /// The folder of the files.
    pub folder: &'a Path,
    /// The data directory.
    pub data: &'a Path,
    /// The folder of the Unix socket, for the superuser and the data API.
    pub sockets: &'a Path,
    /// The TCP port on loopback.
    pub port: u16,
    /// The only database that accepts TCP connections.
    pub database: &'a str,
    /// The system user that may connect as superuser over the socket.
    pub superuser_is: &'a str,
    /// The shell command that archives a complete WAL segment
    /// (<https://www.postgresql.org/docs/current/runtime-config-wal.html#GUC-ARCHIVE-COMMAND>).
    pub archive_command: &'a str,
}

impl Configuration<'_> {
    /// The name and text of each file.
    pub fn files(&self) -> [(&'static str, String); 3] {
        [
            ("postgresql.conf", self.postgresql()),
            ("pg_hba.conf", self.host_based_authentication()),
            ("pg_ident.conf", self.identities()),
        ]
    }

    /// See <https://www.postgresql.org/docs/current/runtime-config.html>.
    fn postgresql(&self) -> String {
        let data = setting(self.data);
        let hba = setting(&self.folder.join("pg_hba.conf"));
        let ident = setting(&self.folder.join("pg_ident.conf"));
        let sockets = setting(self.sockets);
        let port = self.port;
        let archive_command = quote::setting(self.archive_command);
        format!(
            "\
# Written by tercet at every start. Your own settings: ALTER SYSTEM SET … as the superuser.
data_directory = {data}
hba_file = {hba}
ident_file = {ident}

listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = {sockets}
unix_socket_permissions = 0700
password_encryption = 'scram-sha-256'

max_connections = 100
shared_buffers = '128MB'
dynamic_shared_memory_type = posix
# Short statements are what an API sends: compiling them costs more than it saves.
jit = off

# Set from the first start on, since a change needs a restart: backups need the archive, and change feeds logical WAL.
wal_level = logical
archive_mode = on
archive_command = {archive_command}

log_destination = 'stderr'
logging_collector = off
log_line_prefix = ''
log_timezone = 'UTC'
timezone = 'UTC'
datestyle = 'iso, mdy'
default_text_search_config = 'pg_catalog.english'
"
        )
    }

    /// See <https://www.postgresql.org/docs/current/auth-pg-hba-conf.html>: a connection that matches no record is
    /// rejected.
    fn host_based_authentication(&self) -> String {
        let (database, owner) = (hba::name(self.database), hba::name(&roles::owner(self.database)));
        let host = |role: &str| {
            hba::host(Transport::Any, &database, role, Ipv4Addr::LOCALHOST.into(), Method::Scram)
        };
        [
            "# Written by tercet at every start. The superuser never comes over the network.\n".to_owned(),
            hba::local("all", SUPERUSER, Method::PeerMap(MAP)),
            hba::local("replication", SUPERUSER, Method::PeerMap(MAP)),
            hba::local(&database, AUTHENTICATOR, Method::Scram),
            host(&owner),
            host(AUTHENTICATOR),
        ]
        .concat()
    }

    /// See <https://www.postgresql.org/docs/current/auth-username-maps.html>.
    fn identities(&self) -> String {
        let record = hba::ident(MAP, &hba::name(self.superuser_is), SUPERUSER);
        format!("# Written by tercet at every start.\n{record}")
    }
}

/// A path as a value of `postgresql.conf`.
pub(crate) fn setting(path: &Path) -> String {
    quote::setting(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn only_the_owner_and_the_authenticator_come_with_a_password_and_the_superuser_by_the_socket() {
        let configuration = Configuration {
            folder: Path::new("/it's here/configuration"),
            data: Path::new("/it's here/data"),
            sockets: Path::new("/run/x"),
            port: 5432,
            database: "all",
            superuser_is: "ada",
            archive_command: "true",
        };
        let [(_, postgresql), (_, hba), (_, ident)] = configuration.files();
        assert!(postgresql.contains("data_directory = '/it''s here/data'\n"), "{postgresql}");
        expect![[r#"
            # Written by tercet at every start. The superuser never comes over the network.
            local all postgres peer map=tercet
            local replication postgres peer map=tercet
            local "all" authenticator scram-sha-256
            host "all" "all_owner" 127.0.0.1/32 scram-sha-256
            host "all" authenticator 127.0.0.1/32 scram-sha-256
        "#]]
        .assert_eq(&hba);
        expect![[r#"
            # Written by tercet at every start.
            tercet "ada" postgres
        "#]]
        .assert_eq(&ident);
    }
}
