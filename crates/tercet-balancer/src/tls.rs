//! TLS towards clients: certificates from files, picked by the name a client asks for, read again when the files
//! change.
//!
//! TLS 1.2 and 1.3 only, with rustls' own choice of ciphers; sessions are resumed by slot or from memory, also
//! across a change of certificates. It refuses to know sockets.

use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};

use crate::config::Certificate;

/// Sessions kept in memory, for clients that do not take slots.
const SESSIONS: usize = 4096;

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}\nhint: {hint}", file.display())]
pub struct TlsError {
    /// The file it is about.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// TLS of one listener.
#[derive(Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    pairs: Arc<Pairs>,
    files: Vec<Certificate>,
    stamps: ArcSwap<Vec<Stamp>>,
}

/// What tells that a file changed: a hash of what it holds. Times of change are too coarse to tell two writes
/// apart, and files that are linked or mounted in their place may bring any time along.
type Stamp = Option<u64>;

impl Tls {
    /// Reads the certificates and keys. The first is for clients that ask for a name none of them has.
    ///
    /// # Errors
    /// A file that cannot be read or does not hold what it should; it is named.
    pub fn load(files: &[Certificate]) -> Result<Self, TlsError> {
        let stamps = ArcSwap::from_pointee(stamps(files));
        let pairs = Arc::new(Pairs(ArcSwap::from_pointee(read_all(files)?)));
        let provider = Arc::new(ring::default_provider());
        let failed = |problem: rustls::Error| TlsError {
            file: files.first().map(|first| first.certificate.clone()).unwrap_or_default(),
            problem: problem.to_string(),
            hint: "this should not happen: please report it",
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(failed)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&pairs) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        config.ticketer = ring::Ticketer::new().map_err(failed)?;
        Ok(Self { config: Arc::new(config), pairs, files: files.to_vec(), stamps })
    }

    /// What connections are accepted with.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Reads the files again if any of them changed since, and says whether it did. New connections get the new
    /// certificates; nothing else changes.
    ///
    /// # Errors
    /// As [`load`](Self::load); then the certificates before stay in use, and the files are tried again only
    /// when they change once more.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let stamps = stamps(&self.files);
        if **self.stamps.load() == stamps {
            return Ok(false);
        }
        self.stamps.store(Arc::new(stamps));
        self.pairs.0.store(Arc::new(read_all(&self.files)?));
        Ok(true)
    }
}

/// The certificates in use, in their order.
#[derive(Debug)]
struct Pairs(ArcSwap<Vec<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Pairs {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pairs = self.0.load();
        let asked = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let named = asked.and_then(|name| pairs.iter().find(|pair| is_valid_for(pair, &name)));
        named.or_else(|| pairs.first()).cloned()
    }
}

fn is_valid_for(pair: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = pair.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
}

fn stamps(files: &[Certificate]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let mut hasher = DefaultHasher::new();
        hasher.write(&std::fs::read(file).ok()?);
        Some(hasher.finish())
    };
    files.iter().flat_map(|pair| [stamp(&pair.certificate), stamp(&pair.key)]).collect()
}

fn read_all(files: &[Certificate]) -> Result<Vec<Arc<CertifiedKey>>, TlsError> {
    files.iter().map(|pair| read(pair).map(Arc::new)).collect()
}

fn read(pair: &Certificate) -> Result<CertifiedKey, TlsError> {
    use rustls::pki_types::pem::Error::NoItemsFound;
    let pem = read_file(&pair.certificate)?;
    let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| refused(&pair.certificate, &error, "it has to be PEM"))?;
    if chain.is_empty() {
        return Err(refused(&pair.certificate, &"no certificate in it", "it has to be PEM"));
    }
    if is_version_1(&chain[0]) {
        let problem = "it is an X.509 certificate of version 1, and TLS needs version 3";
        let hint =
            "make it anew with its names in it: with openssl, `-addext subjectAltName=DNS:shop.example`";
        return Err(refused(&pair.certificate, &problem, hint));
    }
    let key = PrivateKeyDer::from_pem_slice(&read_file(&pair.key)?).map_err(|error| match error {
        NoItemsFound => refused(&pair.key, &"no private key in it", "it has to be PEM, without a passphrase"),
        error => refused(&pair.key, &error, "it has to be PEM, without a passphrase"),
    })?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let problem = format!("it is not the key of {}", pair.certificate.display());
            refused(
                &pair.key,
                &problem,
                "the two files have to belong together, the certificate's own part first",
            )
        }
        rustls::Error::InvalidCertificate(_) => {
            refused(&pair.certificate, &error, "the server's own certificate comes first")
        }
        _ => refused(&pair.key, &error, "keys are RSA (2048 bits and more), ECDSA (P-256, P-384) or Ed25519"),
    })
}

/// Whether a certificate lacks the version that all but the first say (RFC 5280 section 4.1): it would be the first
/// element of the first element.
fn is_version_1(certificate: &[u8]) -> bool {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    fn content(der: &[u8]) -> Option<&[u8]> {
        let (tag, rest) = der.split_first()?;
        let (length, rest) = rest.split_first()?;
        let more = usize::from(if *length < 0x80 { 0 } else { length & 0x7f });
        rest.get(more..).filter(|_| *tag == SEQUENCE)
    }
    let first = content(certificate).and_then(content).and_then(<[u8]>::first);
    first.is_some_and(|tag| *tag != VERSION)
}

fn read_file(file: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(file)
        .map_err(|error| refused(file, &error, "the user the balancer runs as must be able to read it"))
}

fn refused(file: &Path, problem: &dyn std::fmt::Display, hint: &'static str) -> TlsError {
    TlsError { file: file.to_owned(), problem: problem.to_string(), hint }
}

#[cfg(test)]
mod tests;
