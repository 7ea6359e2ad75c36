//! One attempt to log in over TCP: whether PostgreSQL accepts it, and what the role may do.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tercet_postgres::{Connection, Host, SslMode, Target};

/// The longest attempt. The caller has a shorter timeout, by which it tells that there is no answer.
const LONGEST: Duration = Duration::from_secs(60);

/// Who tries, where, with what.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// Where PostgreSQL listens.
    pub address: SocketAddr,
    /// Which database.
    pub database: &'a str,
    /// As which role.
    pub role: &'a str,
    /// The password offered when asked.
    pub password: &'a str,
    /// What the connection is wrapped in.
    pub tls: Tls<'a>,
}

/// What a connection is wrapped in.
#[derive(Clone, Copy, Debug)]
pub enum Tls<'a> {
    /// Nothing.
    None,
    /// TLS, with the server's certificate and name checked against an authority.
    Verified {
        /// The authority's certificate, PEM.
        authority: &'a Path,
        /// The client's certificate and key, PEM, when it has one.
        client: Option<(&'a Path, &'a Path)>,
    },
}

/// Logs in and out again; the error says who refused and why, on one line. What the role may do beyond becoming
/// another is an error as well: no role that logs in over the network may. Must be called on a `LocalSet`.
///
/// # Errors
/// It was refused, or it was not and should have been weaker.
pub async fn attempt(login: &Login<'_>) -> Result<(), String> {
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
    if powerful.is_empty() {
        Ok(())
    } else {
        Err(format!("{} logs in and may do more than become a request role", login.role))
    }
}
