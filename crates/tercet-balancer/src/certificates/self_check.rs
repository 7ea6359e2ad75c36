//! The self-check before an order: whether the domain resolves, and whether its port 80 leads to this balancer.
//!
//! A failed validation counts against the authority's rate limits, a self-check does not.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::Issuance;
use crate::challenges::Challenge;

/// How long connecting to one address and its response may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// The longest response that is read, in bytes.
const MAX_RESPONSE: u64 = 16 << 10;
/// The most addresses that are checked.
const MAX_ADDRESSES: usize = 4;

/// What the self-check found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// The domain leads here.
    Here,
    /// The check says nothing, for this reason: a machine may be unable to reach its own public address.
    Unknown(String),
    /// The domain does not lead here, for this reason.
    Elsewhere(String),
}

impl Issuance {
    /// Checks a domain. Its challenge is replaced.
    pub(super) async fn check_domain(&self, domain: &str) -> Finding {
        let resolved = tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((domain, 80))).await;
        let mut addresses: Vec<SocketAddr> = match resolved {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return Finding::Elsewhere(unresolved(domain, &error)),
            Err(_) => return Finding::Elsewhere(format!("{domain} does not resolve: timed out")),
        };
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(MAX_ADDRESSES);
        let token = format!("self-check-{}", Uuid::now_v7().simple());
        let response = format!("{token}.{}", Uuid::now_v7().simple());
        let challenge = Challenge::Http { token: token.clone(), response: response.clone() };
        self.set_challenge(domain, Some(challenge)).await;
        let mut finding = Finding::Unknown(format!("{domain} has no address"));
        for address in addresses {
            let received = tokio::time::timeout(TIMEOUT, get(domain, address, &token)).await;
            finding = match received.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(text) => judge(&text, &response, domain, address),
                Err(error) => Finding::Unknown(format!("port 80 of {domain} ({}): {error}", address.ip())),
            };
            if matches!(finding, Finding::Elsewhere(_)) {
                break;
            }
        }
        self.set_challenge(domain, None).await;
        finding
    }
}

fn unresolved(domain: &str, error: &io::Error) -> String {
    let reason = error.to_string();
    let reason = reason.strip_prefix("failed to lookup address information: ").unwrap_or(&reason);
    format!("{domain} does not resolve: {reason}")
}

/// Requests the token from one address of the domain; returns the response.
async fn get(domain: &str, address: SocketAddr, token: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET /.well-known/acme-challenge/{token} HTTP/1.1\r\nHost: {domain}\r\nUser-Agent: tercet\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut received = Vec::new();
    stream.take(MAX_RESPONSE).read_to_end(&mut received).await?;
    Ok(received)
}

fn judge(received: &[u8], expected: &str, domain: &str, address: SocketAddr) -> Finding {
    let text = String::from_utf8_lossy(received);
    let status = text.split(' ').nth(1).unwrap_or_default();
    let leads = format!("port 80 of {domain} leads to {}", address.ip());
    match status.as_bytes() {
        b"200" if text.contains(expected) => Finding::Here,
        // The authority follows it.
        [b'3', ..] => Finding::Unknown(format!("{leads}, which redirects (status {status})")),
        [_, _, _] => Finding::Elsewhere(format!("{leads}, where another server responds (status {status})")),
        _ => Finding::Elsewhere(format!("{leads}, where another server responds")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(received: &str, expected: &str) {
        let address = SocketAddr::from(([192, 0, 2, 1], 80));
        let found = match judge(received.as_bytes(), "token.key", "a.example", address) {
            Finding::Here => "here".to_owned(),
            Finding::Unknown(reason) => format!("unknown: {reason}"),
            Finding::Elsewhere(reason) => format!("elsewhere: {reason}"),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn only_the_response_of_this_process_shows_that_a_domain_leads_here() {
        check("HTTP/1.1 200 OK\r\n\r\ntoken.key", "here");
        let elsewhere = "elsewhere: port 80 of a.example leads to 192.0.2.1, where another server responds";
        check("HTTP/1.1 200 OK\r\n\r\nwelcome", &format!("{elsewhere} (status 200)"));
        check("HTTP/1.1 404 Not Found\r\n\r\ntoken.key", &format!("{elsewhere} (status 404)"));
        check("SSH-2.0-OpenSSH_9.2\r\n", elsewhere);
        check("", elsewhere);
        check(
            "HTTP/1.1 301 Moved\r\n\r\n",
            "unknown: port 80 of a.example leads to 192.0.2.1, which redirects (status 301)",
        );
    }
}
