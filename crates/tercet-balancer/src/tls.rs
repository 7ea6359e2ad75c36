//! TLS termination: loads certificates from files, selects one by the client's server name (SNI), and reloads them when
//! the files change.
//!
//! TLS 1.2 and 1.3 only, with rustls' default cipher suites. Sessions are resumed by ticket or from memory, also after a
//! change of certificates. This module does not depend on sockets.

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

/// Sessions kept in memory, for clients without support for tickets.
const SESSIONS: usize = 4096;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}\nhint: {hint}", file.display())]
pub struct TlsError {
    /// The file.
    pub file: PathBuf,
    /// The problem with it.
    pub problem: String,
    /// How to solve it.
    pub hint: &'static str,
}

/// TLS of one listener.
#[derive(Debug)]
pub struct Tls {
    config: Arc<ServerConfig>,
    pairs: Arc<Pairs>,
    files: Vec<Certificate>,
    file_hashes: ArcSwap<Vec<FileHash>>,
}

/// The hash of a file's content, to detect changes; `None` if it cannot be read. Modification times are too coarse to
/// distinguish two writes, and arbitrary for files that are replaced by a link or a mount.
type FileHash = Option<u64>;

impl Tls {
    /// Loads the certificates and keys. The first pair is used for clients whose server name matches none.
    ///
    /// # Errors
    /// A file cannot be read or is invalid. The error names it.
    pub fn load(files: &[Certificate]) -> Result<Self, TlsError> {
        let file_hashes = ArcSwap::from_pointee(hash_all(files));
        let pairs = Arc::new(Pairs(ArcSwap::from_pointee(read_all(files)?)));
        let provider = Arc::new(ring::default_provider());
        let failed = |problem: rustls::Error| TlsError {
            file: files.first().map(|first| first.certificate.clone()).unwrap_or_default(),
            problem: problem.to_string(),
            hint: "this is a bug: please report it",
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(failed)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&pairs) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        config.ticketer = ring::Ticketer::new().map_err(failed)?;
        Ok(Self { config: Arc::new(config), pairs, files: files.to_vec(), file_hashes })
    }

    /// The configuration for accepting connections.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Reloads the files if any of them has changed, and returns whether it did. Only new connections get the new
    /// certificates.
    ///
    /// # Errors
    /// As [`load`](Self::load). Then the previous certificates stay in use, and the files are loaded again when they
    /// change once more.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let file_hashes = hash_all(&self.files);
        if **self.file_hashes.load() == file_hashes {
            return Ok(false);
        }
        self.file_hashes.store(Arc::new(file_hashes));
        self.pairs.0.store(Arc::new(read_all(&self.files)?));
        Ok(true)
    }
}

/// The certificates in use, in the order of the configuration.
#[derive(Debug)]
struct Pairs(ArcSwap<Vec<Arc<CertifiedKey>>>);

impl ResolvesServerCert for Pairs {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pairs = self.0.load();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let matching = name.and_then(|name| pairs.iter().find(|pair| is_valid_for(pair, &name)));
        matching.or_else(|| pairs.first()).cloned()
    }
}

fn is_valid_for(pair: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = pair.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
}

fn hash_all(files: &[Certificate]) -> Vec<FileHash> {
    let hash = |file: &PathBuf| {
        let mut hasher = DefaultHasher::new();
        hasher.write(&std::fs::read(file).ok()?);
        Some(hasher.finish())
    };
    files.iter().flat_map(|pair| [hash(&pair.certificate), hash(&pair.key)]).collect()
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
        let hint = "issue it again with its names: openssl … -addext subjectAltName=DNS:shop.example";
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
                "use the key of this certificate; the server's certificate comes first in its file",
            )
        }
        rustls::Error::InvalidCertificate(_) => {
            refused(&pair.certificate, &error, "the server's certificate comes first in the file")
        }
        _ => refused(&pair.key, &error, "keys are RSA (2048 bits and more), ECDSA (P-256, P-384) or Ed25519"),
    })
}

/// Whether a certificate has no version field, which means version 1 (RFC 5280 section 4.1). The field would be the
/// first element of the first element.
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
