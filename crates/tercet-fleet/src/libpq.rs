//! What a program finds of a database's certificates: libpq's variables (PostgreSQL manual, section 34.15), the same for the data
//! API and any other client.

/// The variables that name files, and the credentials that these files are.
pub(crate) const FILES: [(&str, &str); 3] =
    [("PGSSLROOTCERT", "authority.crt"), ("PGSSLCERT", "client.crt"), ("PGSSLKEY", "client.key")];

/// The path of a credential of a unit (systemd.exec(5), `LoadCredential=`).
pub(crate) fn credential(unit: &str, name: &str) -> String {
    format!("/run/credentials/{unit}/{name}")
}

/// The variables of a unit.
pub(crate) fn variables(unit: &str) -> impl Iterator<Item = (&'static str, String)> {
    FILES.into_iter().map(move |(variable, name)| (variable, credential(unit, name)))
}
