//! SCRAM-SHA-256 verifiers: what PostgreSQL stores in place of a password.

use std::fmt;

/// A SCRAM-SHA-256 verifier (RFC 5803), as `CREATE ROLE … PASSWORD` takes it
/// (<https://www.postgresql.org/docs/current/catalog-pg-authid.html>). Its `Debug` form says nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier(String);

impl Verifier {
    /// The verifier of a password, with a random salt.
    pub fn of(password: &str) -> Self {
        Self(postgres_protocol::password::scram_sha_256(password.as_bytes()))
    }

    /// The verifier itself, for the moment it is sent or stored.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}
