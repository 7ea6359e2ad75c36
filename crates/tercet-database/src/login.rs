//! A login attempt over TCP: whether PostgreSQL accepts it, and whether the role has privileged attributes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tercet_postgres::{Connection, Host, SslMode, Target};

/// The timeout of an attempt. The caller has a shorter one, by which it reports a timeout.
const LONGEST: Duration = Duration::from_secs(60);

/// The parameters of a login attempt.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// The address of PostgreSQL.
    pub address: SocketAddr,
    /// The database.
    pub database: &'a str,
    /// The role.
    pub role: &'a str,
    /// The password, sent if PostgreSQL requests it.
    pub password: &'a str,
    /// Whether the connection uses TLS.
    pub tls: Tls<'a>,
}

/// The TLS of a connection.
#[derive(Clone, Copy, Debug)]
pub enum Tls<'a> {
    /// No TLS.
    None,
    /// TLS, with the server's certificate and name checked against an authority.
    Verified {
        /// The authority's certificate, PEM.
        authority: &'a Path,
        /// The client's certificate and key, PEM, if it has them.
        client: Option<(&'a Path, &'a Path)>,
    },
}

/// What a role that logged in may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Its own privileges, and to become another role.
    Ordinary,
    /// It has a privileged attribute: superuser, createrole, createdb, replication or bypassrls. No role that logs in over
    /// the network may have one.
    Privileged,
}

/// Logs in and closes the connection. Must be called on a `LocalSet`.
///
/// # Errors
/// The login failed; one line with the reason.
pub async fn attempt(login: &Login<'_>) -> Result<Power, String> {
    let mut target = Target {
        password: Some(login.password.to_owned()),
        connect_timeout: LONGEST,
        reach_timeout: LONGEST,
        ..Target::new(Host::tcp(login.address), login.database, login.role)
    };
    if let Tls::Verified { authority, client } = login.tls {
        target.ssl_mode = SslMode::VerifyFull;
        target.ssl_root_certificate = Some(authority.to_owned());
        if let Some((certificate, key)) = client {
            target.ssl_certificate = Some(certificate.to_owned());
            target.ssl_key = Some(key.to_owned());
        }
    }
    let connection = Connection::connect(&Arc::new(target), false)
        .await
        .map_err(|error| error.reason.replace('\n', " "))?;
    let powers = "select from pg_roles where rolname = session_user \
                  and (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)";
    let powerful = connection.query(&powers.into()).await.map_err(|error| error.to_string())?;
    Ok(if powerful.is_empty() { Power::Ordinary } else { Power::Privileged })
}
