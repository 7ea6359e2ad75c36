use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConnection, Stream};
use tempfile::TempDir;

use super::*;
use crate::challenges::Challenge;

/// An authority and a folder with certificates it issued.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), root, folder: tempfile::tempdir().unwrap() }
    }

    /// Writes a certificate for these names, as files of this name.
    fn issue(&self, file: &str, names: &[&str]) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        let pair = Certificate {
            certificate: self.folder.path().join(format!("{file}.pem")),
            key: self.folder.path().join(format!("{file}.key")),
        };
        fs::write(&pair.certificate, certificate.pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    fn client(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        alpn: &[&str],
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// The client's view of a connection.
#[derive(Debug)]
struct Seen {
    certificate: Vec<u8>,
    alpn: Option<Vec<u8>>,
    kind: HandshakeKind,
}

/// One connection over a real socket.
fn connect(tls: &Tls, client: &Arc<ClientConfig>, name: &str) -> Result<Seen, rustls::Error> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = tls.config();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(config).unwrap();
        let mut stream = Stream::new(&mut connection, &mut socket);
        // The client reports a failed handshake.
        let _ = stream.write_all(b"hello").and_then(|()| stream.read(&mut [0; 1]));
    });
    let mut socket = TcpStream::connect(address).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = ClientConnection::new(Arc::clone(client), name).unwrap();
    let outcome = Stream::new(&mut connection, &mut socket).read_exact(&mut [0; 5]);
    let seen = outcome
        .map_err(|error| *error.into_inner().unwrap().downcast::<rustls::Error>().unwrap())
        .map(|()| Seen {
            certificate: connection.peer_certificates().unwrap()[0].to_vec(),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            kind: connection.handshake_kind().unwrap(),
        });
    drop(socket);
    server.join().unwrap();
    seen
}

fn der(pair: &Certificate) -> Vec<u8> {
    CertificateDer::from_pem_file(&pair.certificate).unwrap().to_vec()
}

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

#[test]
fn the_server_name_selects_the_certificate() {
    let authority = Authority::new();
    let shop = authority.issue("shop", &["shop.example", "127.0.0.1"]);
    let wild = authority.issue("wild", &["*.club.example"]);
    let tls = Tls::load(&[shop.clone(), wild.clone()]).unwrap();
    let client = authority.client(BOTH, &[]);
    assert_eq!(connect(&tls, &client, "shop.example").unwrap().certificate, der(&shop));
    assert_eq!(connect(&tls, &client, "a.club.example").unwrap().certificate, der(&wild));
    // No server name is sent for an address, and no certificate has the other one: both get the first.
    assert_eq!(connect(&tls, &client, "127.0.0.1").unwrap().certificate, der(&shop));
    assert!(matches!(connect(&tls, &client, "other.example"), Err(rustls::Error::InvalidCertificate(_))));
}

#[test]
fn a_domain_has_its_own_certificate_or_that_of_a_file_but_not_of_another() {
    let authority = Authority::new();
    let (club, shop) =
        (authority.issue("club", &["club.example"]), authority.issue("shop", &["shop.example"]));
    let folder = tempfile::tempdir().unwrap();
    let domain = |name: &str| (name.to_owned(), certificate_file(folder.path(), name));
    let domains = vec![domain("shop.example"), domain("new.example")];
    let sources = Sources { files: vec![club.clone(), shop.clone()], domains: domains.clone() };
    let challenges = Arc::<Challenges>::default();
    let tls = Tls::load_sources(sources, Arc::clone(&challenges)).unwrap();
    // A new one each time: it would resume the session with the certificate from before.
    let connect_to = |name: &str| connect(&tls, &authority.client(BOTH, &[]), name);
    assert_eq!(connect_to("shop.example").unwrap().certificate, der(&shop), "the file's, meanwhile");
    assert!(!tls.has_certificate("new.example") && tls.has_certificate("other.example"));
    assert!(connect_to("new.example").is_err());

    let own = authority.issue("own", &["shop.example"]);
    let pem = [fs::read(&own.certificate).unwrap(), fs::read(&own.key).unwrap()].concat();
    fs::write(&domains[0].1, pem).unwrap();
    fs::write(&domains[1].1, "half a certificate").unwrap();
    assert!(tls.refresh().unwrap());
    assert_eq!(connect_to("shop.example").unwrap().certificate, der(&own));
    assert!(connect_to("new.example").is_err());
    let obtained = tls.obtained();
    let names: Vec<_> = obtained.iter().map(|it| (&*it.domain, it.leaf.is_some())).collect();
    assert_eq!(names, [("shop.example", true), ("new.example", false)]);
    assert_eq!(obtained[0].leaf.as_ref().unwrap().names, ["shop.example"]);

    // A challenge is answered to the client that requests it, and to no other.
    let pem = |path: &Path| fs::read_to_string(path).unwrap();
    let (certificate, key) = (pem(&club.certificate), pem(&club.key));
    challenges.set(vec![Challenge::Alpn { domain: "club.example".to_owned(), certificate, key }]);
    let validation = authority.client(&[&version::TLS13], &["acme-tls/1"]);
    let seen = connect(&tls, &validation, "club.example").unwrap();
    assert_eq!((seen.certificate, seen.alpn.as_deref()), (der(&club), Some(challenges::ALPN)));
    assert!(connect(&tls, &validation, "shop.example").is_err());
}

#[test]
fn versions_and_protocols_are_negotiated() {
    let authority = Authority::new();
    let tls = Tls::load(&[authority.issue("shop", &["shop.example"])]).unwrap();
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        for (offered, agreed) in
            [(&["h2", "http/1.1"][..], Some("h2")), (&["http/1.1"], Some("http/1.1")), (&[], None)]
        {
            let seen = connect(&tls, &authority.client(versions, offered), "shop.example").unwrap();
            assert_eq!(seen.alpn.as_deref(), agreed.map(str::as_bytes));
        }
    }
}

#[test]
fn sessions_are_resumed_in_either_version_and_after_a_change() {
    let authority = Authority::new();
    let pair = authority.issue("shop", &["shop.example"]);
    let tls = Tls::load(&[pair]).unwrap();
    for versions in [&[&version::TLS13], &[&version::TLS12]] {
        let client = authority.client(versions, &[]);
        assert_eq!(connect(&tls, &client, "shop.example").unwrap().kind, HandshakeKind::Full);
        authority.issue("shop", &["shop.example"]);
        assert!(tls.refresh().unwrap());
        assert_eq!(connect(&tls, &client, "shop.example").unwrap().kind, HandshakeKind::Resumed);
    }
}

#[test]
fn changed_files_are_reloaded_and_invalid_ones_are_ignored() {
    let authority = Authority::new();
    let pair = authority.issue("shop", &["shop.example"]);
    let tls = Tls::load(std::slice::from_ref(&pair)).unwrap();
    let client = || authority.client(BOTH, &[]);
    assert!(!tls.refresh().unwrap());

    authority.issue("shop", &["shop.example"]);
    assert!(tls.refresh().unwrap());
    let current = der(&pair);
    assert_eq!(connect(&tls, &client(), "shop.example").unwrap().certificate, current);

    fs::write(&pair.certificate, "half a certificate").unwrap();
    assert_eq!(tls.refresh().unwrap_err().file, pair.certificate);
    assert!(!tls.refresh().unwrap(), "unchanged files are not loaded again");
    assert_eq!(connect(&tls, &client(), "shop.example").unwrap().certificate, current);

    authority.issue("shop", &["shop.example"]);
    assert!(tls.refresh().unwrap());
    assert_eq!(connect(&tls, &client(), "shop.example").unwrap().certificate, der(&pair));
}

#[test]
fn a_file_that_cannot_be_used_holds_back_no_other_certificate() {
    let authority = Authority::new();
    let (club, shop) =
        (authority.issue("club", &["club.example"]), authority.issue("shop", &["shop.example"]));
    let folder = tempfile::tempdir().unwrap();
    let file = certificate_file(folder.path(), "new.example");
    let domains = vec![("new.example".to_owned(), file.clone())];
    let sources = Sources { files: vec![club.clone(), shop.clone()], domains };
    let tls = Tls::load_sources(sources, Arc::default()).unwrap();
    let connect_to = |name: &str| connect(&tls, &authority.client(BOTH, &[]), name).unwrap().certificate;
    let club_before = der(&club);
    fs::remove_file(&club.key).unwrap();
    let renewed = authority.issue("shop", &["shop.example"]);
    let new = authority.issue("new", &["new.example"]);
    fs::write(&file, [fs::read(&new.certificate).unwrap(), fs::read(&new.key).unwrap()].concat()).unwrap();
    assert_eq!(tls.refresh().unwrap_err().file, club.key);
    assert_eq!(connect_to("new.example"), der(&new));
    assert_eq!(connect_to("shop.example"), der(&renewed));
    assert_eq!(connect_to("club.example"), club_before, "the one from before");
    // Until the certificates process has replaced it.
    fs::write(&file, "half a certificate").unwrap();
    assert!(tls.refresh().is_err());
    assert_eq!(connect_to("new.example"), der(&new));
}

#[test]
fn refreshes_at_once_leave_the_newest_certificate() {
    let authority = Authority::new();
    let pair = authority.issue("shop", &["shop.example"]);
    let tls = Tls::load(std::slice::from_ref(&pair)).unwrap();
    let written = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let refresh = || {
            while !written.load(Ordering::Relaxed) {
                // A key that was written without its certificate is refused.
                let _ = tls.refresh();
            }
        };
        let refreshing = [scope.spawn(refresh), scope.spawn(refresh)];
        for _ in 0..50 {
            authority.issue("shop", &["shop.example"]);
        }
        written.store(true, Ordering::Relaxed);
        for thread in refreshing {
            thread.join().unwrap();
        }
    });
    tls.refresh().unwrap();
    let loaded = tls.pairs.loaded.load();
    assert_eq!(loaded.files[0].as_ref().unwrap().cert[0].as_ref(), der(&pair));
}

#[track_caller]
fn check_refused(pair: &Certificate, file: &Path, problem: &str) {
    let error = Tls::load(std::slice::from_ref(pair)).unwrap_err();
    assert_eq!(error.file, file);
    assert!(error.to_string().contains(problem), "{error}");
    assert!(error.to_string().contains("\nhint: "), "{error}");
}

#[test]
fn errors_name_the_file() {
    let authority = Authority::new();
    let pair = authority.issue("shop", &["shop.example"]);
    let other = authority.issue("other", &["other.example"]);
    let missing = Certificate { certificate: "nowhere.pem".into(), ..pair.clone() };
    check_refused(&missing, Path::new("nowhere.pem"), "No such file");
    let swapped = Certificate { certificate: pair.key.clone(), key: pair.certificate.clone() };
    check_refused(&swapped, &pair.key, "no certificate in it");
    let keyless = Certificate { key: pair.certificate.clone(), ..pair.clone() };
    check_refused(&keyless, &pair.certificate, "no private key in it");
    let mismatched = Certificate { key: other.key.clone(), ..pair.clone() };
    check_refused(&mismatched, &other.key, "it is not the key of");
}

/// `openssl x509 -req` issues such a certificate without extensions.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBFDCBuwIUVWiHSVK2Y0cvgfWDXApJhBsbMBAwCgYIKoZIzj0EAwIwDDEKMAgG\n\
A1UEAwwBYTAgFw0yNjExMjkxMjI4MTdaGA8yMTI2MTEwNTEyMjgxN1owDDEKMAgG\n\
A1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCGnx7mybDRDaOrarCO/\n\
tzpLgYwLGb7bdO/bwd+odxRDGSVYh2M9Qb1+je8tdWo7mYtfDUFNAoBprOv+qYFs\n\
ATwwCgYIKoZIzj0EAwIDSAAwRQIgd5V2cFPYeMpSjiEcE6G5KwBO05Ik3McwQ9Xs\n\
wMW3Us8CIQDBbkseUmEkAXFHae/XKWZYExVNVou8A6Ajnca0NQ8T6A==\n\
-----END CERTIFICATE-----\n";

#[test]
fn the_error_for_a_version_1_certificate_names_the_version() {
    let authority = Authority::new();
    let pair = authority.issue("old", &["old.example"]);
    fs::write(&pair.certificate, VERSION_1).unwrap();
    check_refused(&pair, &pair.certificate, "X.509 certificate of version 1");
}
