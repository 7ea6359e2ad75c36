//! TLS termination: loads certificates from files, selects one by the client's server name (SNI), and reloads them when
//! the files change.
//!
//! The certificates of `domains` come from the certificates process and may still be missing; then a client that names
//! such a domain gets no certificate.
//!
//! TLS 1.2 and 1.3 only, with rustls' default cipher suites. Sessions are resumed by ticket or from memory, also after a
//! change of certificates. This module does not depend on sockets.

use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};

use crate::challenges::{self, Challenges};
use crate::config::{Certificate, Config, Listen};
use crate::x509::Leaf;

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
    sources: Sources,
    /// The hashes of the files as of the last refresh. Locked during a refresh: of two at once, the one that has read the
    /// older files must not store them last.
    file_hashes: Mutex<Vec<FileHash>>,
}

/// A domain that a certificate is obtained for.
#[derive(Debug)]
pub(crate) struct Obtained {
    /// The domain.
    pub(crate) domain: String,
    /// Its certificate, once there is one.
    pub(crate) leaf: Option<Leaf>,
}

/// Where the certificates of a listener are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    /// Files that have to be there.
    files: Vec<Certificate>,
    /// Domains, with the file that has the certificate and its key once they are obtained.
    domains: Vec<(String, PathBuf)>,
}

impl Sources {
    /// The sources of a listener.
    pub(crate) fn of(config: &Config, listen: &Listen) -> Self {
        let domain = |domain: &String| (domain.clone(), certificate_file(&config.acme.folder, domain));
        let domains = config.domains.iter().map(domain).collect();
        Self { files: listen.certificates.clone(), domains }
    }
}

/// The file of a domain's certificate and key, in the folder of the certificates process.
pub(crate) fn certificate_file(folder: &Path, domain: &str) -> PathBuf {
    folder.join(format!("{domain}.pem"))
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
        Self::load_sources(Sources { files: files.to_vec(), domains: Vec::new() }, Arc::default())
    }

    /// Loads the certificates and keys of these sources; those of domains may be missing.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub(crate) fn load_sources(sources: Sources, challenges: Arc<Challenges>) -> Result<Self, TlsError> {
        let file_hashes = Mutex::new(hash_all(&sources));
        let (loaded, problem) = Loaded::read(&sources, &Loaded::default());
        if let Some(problem) = problem {
            return Err(problem);
        }
        let loaded = ArcSwap::from_pointee(loaded);
        let domains =
            sources.domains.iter().map(|(name, _)| Domain { name: name.clone(), refused: false.into() });
        let domains = domains.collect();
        let pairs = Arc::new(Pairs { loaded, domains, challenges });
        let provider = Arc::new(ring::default_provider());
        let failed = |problem: rustls::Error| TlsError {
            file: sources.files.first().map(|first| first.certificate.clone()).unwrap_or_default(),
            problem: problem.to_string(),
            hint: "this is a bug: please report it",
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(failed)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&pairs) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if !sources.domains.is_empty() {
            config.alpn_protocols.push(challenges::ALPN.to_vec());
        }
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        config.ticketer = ring::Ticketer::new().map_err(failed)?;
        Ok(Self { config: Arc::new(config), pairs, sources, file_hashes })
    }

    /// The configuration for accepting connections.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Where its certificates are.
    pub(crate) fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Whether certificates may be missing, so that a client may get none.
    pub(crate) fn may_lack_certificate(&self) -> bool {
        !self.sources.domains.is_empty()
    }

    /// Whether there is a certificate for this client.
    pub(crate) fn serves(&self, hello: &ClientHello<'_>) -> bool {
        self.pairs.select(hello).is_some()
    }

    /// The domain that a client without a certificate has named, if it is the first since certificates were loaded.
    pub(crate) fn first_refusal(&self, hello: &ClientHello<'_>) -> Option<&str> {
        let domain = self.pairs.domain(hello.server_name()?)?;
        (!domain.refused.swap(true, Ordering::Relaxed)).then_some(&*domain.name)
    }

    /// Whether a client that names this host gets a certificate.
    pub(crate) fn has_certificate(&self, host: &str) -> bool {
        self.pairs.for_name(Some(host)).is_some()
    }

    /// The certificates in use.
    pub(crate) fn certificates(&self) -> Vec<Leaf> {
        let loaded = self.pairs.loaded.load();
        loaded.all().filter_map(|pair| Leaf::of(pair.end_entity_cert().ok()?).ok()).collect()
    }

    /// The domains that certificates are obtained for.
    pub(crate) fn obtained(&self) -> Vec<Obtained> {
        let leaf = |domain: &str| {
            let pairs = self.pairs.loaded.load();
            let name = ServerName::try_from(domain).ok()?;
            let pair = pairs.all().find(|pair| is_valid_for(pair, &name))?;
            Leaf::of(pair.end_entity_cert().ok()?).ok()
        };
        let domains = self.pairs.domains.iter();
        domains.map(|Domain { name, .. }| Obtained { domain: name.clone(), leaf: leaf(name) }).collect()
    }

    /// Reloads the files if any of them has changed, and returns whether it did. Only new connections get the new
    /// certificates.
    ///
    /// # Errors
    /// As [`load`](Self::load), for the first file that cannot be used. Then its previous certificate stays in use, and the
    /// files are loaded again when one of them changes once more.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let mut known = self.file_hashes.lock().unwrap_or_else(PoisonError::into_inner);
        let file_hashes = hash_all(&self.sources);
        if *known == file_hashes {
            return Ok(false);
        }
        let (loaded, problem) = Loaded::read(&self.sources, &self.pairs.loaded.load());
        self.pairs.loaded.store(Arc::new(loaded));
        *known = file_hashes;
        self.pairs.domains.iter().for_each(|domain| domain.refused.store(false, Ordering::Relaxed));
        problem.map_or(Ok(true), Err)
    }
}

/// The certificates in use, in the order of their sources; `None`: never loaded.
#[derive(Debug, Default)]
struct Loaded {
    domains: Vec<Option<Arc<CertifiedKey>>>,
    files: Vec<Option<Arc<CertifiedKey>>>,
}

impl Loaded {
    /// Reads the certificates of all sources. One that cannot be used is as `before`; the first such file has its error
    /// returned, except of a domain: the certificates process replaces a file that is missing or damaged.
    fn read(sources: &Sources, before: &Self) -> (Self, Option<TlsError>) {
        let kept = |list: &[Option<Arc<CertifiedKey>>], index: usize| list.get(index).cloned().flatten();
        let domain = |(index, (_, file)): (usize, &(String, PathBuf))| {
            let read = read_file(file).and_then(|pem| certified(file, &pem, file, &pem));
            read.ok().map(Arc::new).or_else(|| kept(&before.domains, index))
        };
        let domains = sources.domains.iter().enumerate().map(domain).collect();
        let mut problem = None;
        let mut files = Vec::with_capacity(sources.files.len());
        for (index, pair) in sources.files.iter().enumerate() {
            files.push(match read(pair) {
                Ok(certified) => Some(Arc::new(certified)),
                Err(error) => {
                    problem.get_or_insert(error);
                    kept(&before.files, index)
                }
            });
        }
        (Self { domains, files }, problem)
    }

    /// Those of domains first, then those of files.
    fn all(&self) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        self.domains.iter().chain(&self.files).flatten()
    }
}

/// How the certificate for a client is found.
#[derive(Debug)]
struct Pairs {
    loaded: ArcSwap<Loaded>,
    domains: Vec<Domain>,
    challenges: Arc<Challenges>,
}

/// A domain that a certificate is obtained for.
#[derive(Debug)]
struct Domain {
    /// In lower case.
    name: String,
    /// Whether a client got no certificate since certificates were loaded.
    refused: AtomicBool,
}

impl Pairs {
    /// The certificate for a client: that of a challenge if it requests one (RFC 8737 section 3).
    fn select(&self, hello: &ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let is_challenge = hello.alpn().is_some_and(|mut offered| offered.any(|it| it == challenges::ALPN));
        if is_challenge {
            return self.challenges.certificate(&hello.server_name()?.to_ascii_lowercase());
        }
        self.for_name(hello.server_name())
    }

    /// The certificate for a server name. One of `domains` without a certificate gets none, rather than that of another.
    fn for_name(&self, server_name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let pairs = self.loaded.load();
        let name = server_name.and_then(|name| ServerName::try_from(name).ok());
        let matching = name.and_then(|name| pairs.all().find(|pair| is_valid_for(pair, &name)));
        let is_expected = || server_name.is_some_and(|name| self.domain(name).is_some());
        matching.or_else(|| pairs.all().next().filter(|_| !is_expected())).cloned()
    }
}

impl Pairs {
    fn domain(&self, name: &str) -> Option<&Domain> {
        self.domains.iter().find(|domain| domain.name.eq_ignore_ascii_case(name))
    }
}

impl ResolvesServerCert for Pairs {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.select(&hello)
    }
}

fn is_valid_for(pair: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = pair.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
}

fn hash_all(sources: &Sources) -> Vec<FileHash> {
    let hash = |file: &PathBuf| {
        let mut hasher = DefaultHasher::new();
        hasher.write(&std::fs::read(file).ok()?);
        Some(hasher.finish())
    };
    let files = sources.files.iter().flat_map(|pair| [&pair.certificate, &pair.key]);
    files.chain(sources.domains.iter().map(|(_, file)| file)).map(hash).collect()
}

fn read(pair: &Certificate) -> Result<CertifiedKey, TlsError> {
    let pem = read_file(&pair.certificate)?;
    certified(&pair.certificate, &pem, &pair.key, &read_file(&pair.key)?)
}

/// The certificate chain in `pem` with the key in `key_pem`, which are the contents of these files.
///
/// # Errors
/// They cannot be used.
pub(crate) fn certified(
    file: &Path,
    pem: &[u8],
    key_file: &Path,
    key_pem: &[u8],
) -> Result<CertifiedKey, TlsError> {
    use rustls::pki_types::pem::Error::NoItemsFound;
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| refused(file, &error, "it has to be PEM"))?;
    if chain.is_empty() {
        return Err(refused(file, &"no certificate in it", "it has to be PEM"));
    }
    if is_version_1(&chain[0]) {
        let problem = "it is an X.509 certificate of version 1, and TLS needs version 3";
        let hint = "issue it again with its names: openssl … -addext subjectAltName=DNS:shop.example";
        return Err(refused(file, &problem, hint));
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| match error {
        NoItemsFound => refused(key_file, &"no private key in it", "it has to be PEM, without a passphrase"),
        error => refused(key_file, &error, "it has to be PEM, without a passphrase"),
    })?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            let problem = format!("it is not the key of {}", file.display());
            let hint = "use the key of this certificate; the server's certificate comes first in its file";
            refused(key_file, &problem, hint)
        }
        rustls::Error::InvalidCertificate(_) => {
            refused(file, &error, "the server's certificate comes first in the file")
        }
        _ => refused(key_file, &error, "keys are RSA (2048 bits and more), ECDSA (P-256, P-384) or Ed25519"),
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
