//! One attempt to log in over TCP: whether PostgreSQL lets somebody in, and as what.

use std::net::SocketAddr;
use std::path::Path;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _};

use crate::SqlError;

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
/// another is an error as well: nobody may have such a login over the network.
///
/// # Errors
/// It was refused, or it was not and should have been weaker.
pub async fn attempt(login: &Login<'_>) -> Result<(), String> {
    let options = PgConnectOptions::new_without_pgpass()
        .host(&login.address.ip().to_string())
        .port(login.address.port())
        .username(login.role)
        .database(login.database)
        .password(login.password);
    let options = match login.tls {
        Tls::None => options.ssl_mode(PgSslMode::Disable),
        Tls::Verified { authority, client } => {
            let options = options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(authority);
            match client {
                Some((certificate, key)) => options.ssl_client_cert(certificate).ssl_client_key(key),
                None => options,
            }
        }
    };
    let one_line = |error: sqlx::Error| SqlError::from(error).to_string().replace('\n', " ");
    let mut connection = options.connect().await.map_err(one_line)?;
    let powerful: bool = sqlx::query_scalar(
        "select rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls
         from pg_roles where rolname = session_user",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(one_line)?;
    connection.close().await.map_err(one_line)?;
    if powerful {
        Err(format!("{} logs in and may do more than become a request role", login.role))
    } else {
        Ok(())
    }
}
