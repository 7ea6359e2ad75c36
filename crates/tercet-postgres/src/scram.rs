//! SCRAM-SHA-256 verifiers, which PostgreSQL stores instead of passwords.

use std::fmt;

/// A SCRAM-SHA-256 verifier (RFC 5803), as `CREATE ROLE … PASSWORD` takes it
/// (<https://www.postgresql.org/docs/current/catalog-pg-authid.html>). Its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier(String);

impl Verifier {
    /// The verifier of a password, with a random salt.
    pub fn of(password: &str) -> Self {
        Self(postgres_protocol::password::scram_sha_256(password.as_bytes()))
    }

    /// The verifier's text, to send or store it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}
