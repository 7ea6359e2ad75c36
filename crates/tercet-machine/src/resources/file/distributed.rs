//! Files that a service does not start without, as Debian's packages make them.

use std::path::Path;

/// `pg_hba.conf` as pg_createcluster(1) makes it.
const HBA: &str = "\
local all postgres peer
local all all peer
host all all 127.0.0.1/32 scram-sha-256
host all all ::1/128 scram-sha-256
local replication all peer
host replication all 127.0.0.1/32 scram-sha-256
host replication all ::1/128 scram-sha-256
";

/// The text of such a file, which belongs to `postgres` with mode 0640; `None` for any other path.
pub(super) fn text(path: &Path) -> Option<&'static str> {
    match path.file_name()?.to_str()? {
        _ if !path.starts_with("/etc/postgresql") => None,
        "pg_hba.conf" => Some(HBA),
        "pg_ident.conf" => Some(""),
        _ => None,
    }
}
