//! Challenges of the certificate authority (ACME): what the balancer answers to prove control of a domain.
//!
//! The certificates process sets them; see [`certificates`](crate::certificates). This module does not depend on sockets.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

/// The path of HTTP-01 challenges, before the token (RFC 8555 section 8.3).
const PREFIX: &[u8] = b"/.well-known/acme-challenge/";
/// The longest token that is looked up. Authorities send 22 to 43 bytes.
const MAX_TOKEN: usize = 128;
/// The protocol of TLS-ALPN-01 challenges (RFC 8737 section 6.2).
pub(crate) const ALPN: &[u8] = b"acme-tls/1";

/// A challenge.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Challenge {
    /// HTTP-01 (RFC 8555 section 8.3): the response to a request for the token.
    Http { token: String, response: String },
    /// TLS-ALPN-01 (RFC 8737): the certificate for the domain, and its key, in PEM.
    Alpn { domain: String, certificate: String, key: String },
}

impl std::fmt::Debug for Challenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http { .. } => "Http",
            Self::Alpn { .. } => "Alpn",
        })
    }
}

/// The challenges to answer now.
#[derive(Debug, Default)]
pub(crate) struct Challenges(ArcSwap<Current>);

#[derive(Debug, Default)]
struct Current {
    responses: HashMap<String, String>,
    certificates: HashMap<String, Arc<CertifiedKey>>,
}

impl Challenges {
    /// Replaces all challenges.
    pub(crate) fn set(&self, challenges: Vec<Challenge>) {
        let mut current = Current::default();
        for challenge in challenges {
            match challenge {
                Challenge::Http { token, response } => {
                    current.responses.insert(token, response);
                }
                Challenge::Alpn { domain, certificate, key } => {
                    // Made by the certificates process just now. If it cannot be used, the authority finds no answer.
                    if let Some(certified) = certified(&certificate, &key) {
                        current.certificates.insert(domain, Arc::new(certified));
                    }
                }
            }
        }
        self.0.store(Arc::new(current));
    }

    /// The response to a request for this token.
    pub(crate) fn response(&self, token: &str) -> Option<String> {
        self.0.load().responses.get(token).cloned()
    }

    /// The certificate that proves control of this domain, in lower case.
    pub(crate) fn certificate(&self, domain: &str) -> Option<Arc<CertifiedKey>> {
        self.0.load().certificates.get(domain).cloned()
    }
}

fn certified(certificate: &str, key: &str) -> Option<CertifiedKey> {
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).ok()?;
    // Not `from_der`, which refuses the critical extension of these certificates (RFC 8737 section 3).
    let key = ring::default_provider().key_provider.load_private_key(key).ok()?;
    Some(CertifiedKey::new(vec![certificate], key))
}

/// Whether the path is one of HTTP-01 challenges.
pub fn is_challenge(path: &[u8]) -> bool {
    path.starts_with(PREFIX)
}

/// The token in the path of a request for an HTTP-01 challenge: letters, digits, `-` and `_` (RFC 8555 section 8.3).
pub fn token(path: &[u8]) -> Option<&str> {
    let token = path.strip_prefix(PREFIX)?;
    let is_valid = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if token.is_empty() || token.len() > MAX_TOKEN || !token.iter().all(is_valid) {
        return None;
    }
    str::from_utf8(token).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_only_the_alphabet_of_base64url() {
        let path = |token: &str| format!("/.well-known/acme-challenge/{token}");
        for good in ["a", "AZaz09-_", &"x".repeat(128)] {
            assert_eq!(token(path(good).as_bytes()), Some(good));
        }
        for bad in ["", "a/b", "..", "a?b", "a%41", "a.b", "a=", "\u{e9}", "a b", &"x".repeat(129)] {
            assert!(is_challenge(path(bad).as_bytes()));
            assert_eq!(token(path(bad).as_bytes()), None, "{bad}");
        }
        for other in [
            "/",
            "/.well-known/acme-challenge",
            "/.well-known/Acme-challenge/a",
            "//.well-known/acme-challenge/a",
        ] {
            assert!(!is_challenge(other.as_bytes()) && token(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn challenges_replace_those_before() {
        let challenges = Challenges::default();
        let http =
            |token: &str| Challenge::Http { token: token.to_owned(), response: format!("{token}.key") };
        challenges.set(vec![http("a"), http("b")]);
        assert_eq!(challenges.response("a").as_deref(), Some("a.key"));
        challenges.set(vec![http("b")]);
        assert_eq!(challenges.response("a"), None);
        let unusable =
            Challenge::Alpn { domain: "a.b".into(), certificate: "none".into(), key: "none".into() };
        challenges.set(vec![unusable]);
        assert!(challenges.certificate("a.b").is_none());
    }
}
