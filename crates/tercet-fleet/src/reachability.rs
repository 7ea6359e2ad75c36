//! Connection and login attempts from the machine this runs on.

mod attempt;
mod scan;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use rustix::process::Uid;
use rustix::thread::{set_thread_groups, set_thread_res_uid};
use serde::{Deserialize, Serialize};
use tercet_database::login::{self, Login, Power, Tls};
use tokio::task::LocalSet;

pub(crate) use self::scan::scan;

/// The timeout of an attempt.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Ports that are often open by mistake.
pub(crate) const COMMON: &[u16] = &[
    21, 22, 23, 25, 53, 80, 111, 139, 443, 445, 631, 873, 2049, 2375, 2379, 3000, 3306, 3389, 5000, 5432,
    5433, 5984, 6379, 6443, 8000, 8080, 8081, 8082, 8443, 8888, 9000, 9090, 9100, 9200, 10250, 11211, 15672,
    27017,
];

/// The result of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reachability {
    /// Connected, or logged in.
    Open,
    /// Logged in as a role with a privileged attribute, which is never allowed over the network.
    Privileged,
    /// Connection refused: no firewall dropped it, and no process listens.
    Refused,
    /// Timed out: a firewall dropped it, or the machine is off.
    TimedOut,
    /// No route to the address from here, which says nothing about the machine's firewall.
    NoRoute,
    /// A rule of this machine prohibits it.
    Prohibited,
    /// PostgreSQL rejected the login.
    Rejected(String),
}

/// A login to try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseLogin {
    /// PostgreSQL's address.
    pub address: SocketAddr,
    /// Whether the attempt is made on PostgreSQL's machine, where application servers connect without TLS.
    pub local: bool,
    /// The database.
    pub database: String,
    /// The role.
    pub role: String,
    /// TLS mode and credentials.
    pub with: LoginMeans,
}

/// The TLS mode and credentials of a login attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginMeans {
    /// Those of an application server: the password, and over the network TLS with verification and the client's
    /// certificate.
    Everything,
    /// The password, no TLS.
    NoTls,
    /// TLS and the password, no certificate.
    NoCertificate,
    /// The same, with a wrong password.
    WrongPassword,
}

/// Attempts a connection to all targets at the same time, as a user of the system if one is named; one result for each.
///
/// # Errors
/// There is no such user, or an attempt cannot be made.
pub(crate) fn connect_all(targets: &[SocketAddr], user: Option<&str>) -> Result<Vec<Reachability>> {
    // The user is that of a thread, which ends with the attempts.
    std::thread::scope(|scope| {
        let attempts = scope.spawn(|| {
            user.map_or(Ok(()), become_user)?;
            attempt::all(targets)
        });
        attempts.join().map_err(|_| anyhow!("an attempt panicked"))?
    })
}

/// Makes the calling thread a user's, without privileges.
fn become_user(name: &str) -> Result<()> {
    let id = tercet_machine::user::id(name)?.with_context(|| format!("there is no user {name}"))?;
    set_thread_groups(&[])?;
    let id = Uid::from_raw(id);
    set_thread_res_uid(id, id, id).with_context(|| name.to_owned())
}

/// Attempts all logins with this machine's credentials in a folder; one result for each.
pub(crate) fn log_in_all(logins: &[DatabaseLogin], credentials: &Path) -> Result<Vec<Reachability>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let attempt = |login| LocalSet::new().block_on(&runtime, log_in(login, credentials));
    logins.iter().map(attempt).collect()
}

async fn log_in(attempt: &DatabaseLogin, folder: &Path) -> Result<Reachability> {
    let [authority, certificate, key] =
        ["authority.crt", "client.crt", "client.key"].map(|name| folder.join(name));
    let password = std::fs::read_to_string(folder.join("database-password"))
        .with_context(|| folder.join("database-password").display().to_string())?;
    let login = Login {
        address: attempt.address,
        database: &attempt.database,
        role: &attempt.role,
        password: if attempt.with == LoginMeans::WrongPassword { "wrong" } else { password.trim() },
        tls: match attempt.with {
            LoginMeans::NoTls => Tls::None,
            _ if attempt.local => Tls::None,
            LoginMeans::NoCertificate => Tls::Verified { authority: &authority, client: None },
            LoginMeans::Everything | LoginMeans::WrongPassword => {
                Tls::Verified { authority: &authority, client: Some((&certificate, &key)) }
            }
        },
    };
    Ok(match tokio::time::timeout(TIMEOUT * 2, login::attempt(&login)).await {
        Err(_) => Reachability::TimedOut,
        Ok(Ok(Power::Ordinary)) => Reachability::Open,
        Ok(Ok(Power::Privileged)) => Reachability::Privileged,
        Ok(Err(refusal)) => Reachability::Rejected(refusal),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn returns_results_in_the_order_of_the_targets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let targets: Vec<SocketAddr> = [open, closed].into_iter().cycle().take(200).collect();
        let expected: Vec<Reachability> =
            [Reachability::Open, Reachability::Refused].into_iter().cycle().take(200).collect();
        assert_eq!(connect_all(&targets, None).unwrap(), expected);
    }
}
