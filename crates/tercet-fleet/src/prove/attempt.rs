//! Trying to connect, from where this process runs.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tercet_database::login::{self, Login, Tls};

/// How long an answer may take before nobody is taken to be there.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many attempts are made at once.
const AT_ONCE: usize = 512;

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reached {
    /// Connected, or logged in.
    Open,
    /// The machine answered that nobody listens: no firewall in between.
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
    at_once(targets, |target| match TcpStream::connect_timeout(target, PATIENCE) {
        Ok(_) => Reached::Open,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Reached::Refused,
        Err(_) => Reached::Silent,
    })
}

/// Tries all logins with this machine's own credentials; one outcome for each.
pub(crate) fn try_all(attempts: &[DatabaseAttempt]) -> Result<Vec<Reached>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    attempts.iter().map(|attempt| runtime.block_on(try_one(attempt))).collect()
}

async fn try_one(attempt: &DatabaseAttempt) -> Result<Reached> {
    let folder = std::path::Path::new(crate::desired::CREDENTIALS);
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

/// Does `work` on every item, many at a time; the outcomes in the items' order.
fn at_once<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(items.len()) {
            scope.spawn(|| {
                while let Some((place, item)) = {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    items.get(place).map(|item| (place, item))
                } {
                    let outcome = work(item);
                    outcomes.lock().expect("nobody panics while holding it").push((place, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().expect("nobody panicked while holding it");
    outcomes.sort_by_key(|(place, _)| *place);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
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
