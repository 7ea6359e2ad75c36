//! Trying to connect, from where this process runs.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tercet_database::login::{self, Login, Tls};

use crate::at_once::outcomes;

/// How long an answer may take before nobody is taken to be there.
const PATIENCE: Duration = Duration::from_secs(2);

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reached {
    /// Connected, or logged in.
    Open,
    /// The machine refused the connection: no firewall in between, and no process listens.
    Refused,
    /// No answer.
    Silent,
    /// Somebody answered and said no.
    Rejected(String),
}

/// A login to try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseAttempt {
    /// Where PostgreSQL listens.
    pub address: SocketAddr,
    /// On PostgreSQL's own machine, where application servers speak to it without TLS.
    pub local: bool,
    /// Which database.
    pub database: String,
    /// As whom.
    pub role: String,
    /// With what.
    pub with: Means,
}

/// What an attempt to log in brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Means {
    /// All an application server has: the password, and over the network TLS with the server verified and the
    /// client's certificate.
    Everything,
    /// The password, no TLS.
    NoTls,
    /// TLS and the password, no certificate.
    NoCertificate,
    /// All but the password, which is a wrong one.
    WrongPassword,
}

/// Tries all targets; one outcome for each.
pub(crate) fn connect_all(targets: &[SocketAddr]) -> Vec<Reached> {
    outcomes(targets, |target| match TcpStream::connect_timeout(target, PATIENCE) {
        Ok(_) => Reached::Open,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Reached::Refused,
        Err(_) => Reached::Silent,
    })
}

/// Tries all logins with this machine's credentials in a folder; one outcome for each.
pub(crate) fn try_all(attempts: &[DatabaseAttempt], credentials: &Path) -> Result<Vec<Reached>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    attempts.iter().map(|attempt| runtime.block_on(try_one(attempt, credentials))).collect()
}

async fn try_one(attempt: &DatabaseAttempt, folder: &Path) -> Result<Reached> {
    let [authority, certificate, key] =
        ["authority.crt", "client.crt", "client.key"].map(|name| folder.join(name));
    let password = std::fs::read_to_string(folder.join("database-password"))
        .with_context(|| folder.join("database-password").display().to_string())?;
    let login = Login {
        address: attempt.address,
        database: &attempt.database,
        role: &attempt.role,
        password: if attempt.with == Means::WrongPassword { "wrong" } else { password.trim() },
        tls: match attempt.with {
            Means::NoTls => Tls::None,
            _ if attempt.local => Tls::None,
            Means::NoCertificate => Tls::Verified { authority: &authority, client: None },
            Means::Everything | Means::WrongPassword => {
                Tls::Verified { authority: &authority, client: Some((&certificate, &key)) }
            }
        },
    };
    Ok(match tokio::time::timeout(PATIENCE * 2, login::attempt(&login)).await {
        Err(_) => Reached::Silent,
        Ok(Ok(())) => Reached::Open,
        Ok(Err(refusal)) => Reached::Rejected(refusal),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn outcomes_are_in_the_order_of_the_targets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let targets: Vec<SocketAddr> = [open, closed].into_iter().cycle().take(200).collect();
        let expected: Vec<Reached> =
            [Reached::Open, Reached::Refused].into_iter().cycle().take(200).collect();
        assert_eq!(connect_all(&targets), expected);
    }
}
