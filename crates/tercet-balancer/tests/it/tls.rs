//! TLS and the PROXY protocol, with curl as the client.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tempfile::TempDir;
use tercet_balancer::Config;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::backend::Backend;
use crate::running::{Running, config};

/// An authority, and certificates it issued, in a folder.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "root");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("root.pem"), root.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), folder }
    }

    /// Writes a certificate and its key for this name, and returns their configuration in TOML.
    fn issue(&self, name: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |kind: &str| self.folder.path().join(format!("{name}.{kind}"));
        fs::write(path("pem"), certificate.pem()).unwrap();
        fs::write(path("key"), key.serialize_pem()).unwrap();
        format!("{{ certificate = '{}', key = '{}' }}", path("pem").display(), path("key").display())
    }

    fn root(&self) -> std::path::PathBuf {
        self.folder.path().join("root.pem")
    }
}

/// A balancer with this `listen` entry, in front of a server.
fn listening(server: &Backend, listen: &str) -> Running {
    let text = format!("listen = [{listen}]\nservers = [\"{}\"]", server.address);
    let listen = Config::parse(&text, "test.toml").unwrap().listen;
    Running::with(Config { listen, ..config(&[server], "") })
}

/// Requests a name at the balancer's port with curl. Returns its output, or its error message.
fn curl(balancer: &Running, root: &Path, name: &str, arguments: &[&str]) -> Result<String, String> {
    let port = balancer.address.port();
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "--resolve", &format!("{name}:{port}:127.0.0.1")])
        .arg("--cacert")
        .arg(root)
        .args(arguments)
        .arg(format!("https://{name}:{port}/a"))
        .output()
        .expect("curl is installed");
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// A connection to `shop.example` at the balancer, offering these protocols.
fn connect(
    balancer: &Running,
    authority: &Authority,
    protocols: &[&str],
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.root()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let connection = ClientConnection::new(Arc::new(config), "shop.example".try_into().unwrap()).unwrap();
    StreamOwned::new(connection, TcpStream::connect(balancer.address).unwrap())
}

/// A server that echoes the host and the forwarding fields of the request.
fn echo() -> Backend {
    Backend::start(|request, stream| {
        let body = format!(
            "{} from {} by {} for {}",
            request.header("host").unwrap_or("-").split(':').next().unwrap_or("-"),
            request.header("x-forwarded-for").unwrap_or("-"),
            request.header("x-forwarded-proto").unwrap_or("-"),
            request.header("forwarded").unwrap_or("-").split(';').next().unwrap_or("-"),
        );
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).is_ok()
    })
}

#[test]
fn curl_connects_with_each_name_and_version() {
    let authority = Authority::new();
    let certificates = [authority.issue("shop.example"), authority.issue("club.example")].join(", ");
    let server = echo();
    let listen = format!("{{ address = \"127.0.0.1:0\", hsts = \"1d\", certificates = [{certificates}] }}");
    let balancer = listening(&server, &listen);
    for name in ["shop.example", "club.example"] {
        for (version, used) in [("--http1.1", "1.1"), ("--http2", "2")] {
            for tls in [&["--tlsv1.2", "--tls-max", "1.2"][..], &["--tlsv1.3"]] {
                let arguments = [&[version, "-w", " %{http_version}"], tls].concat();
                let answer = curl(&balancer, &authority.root(), name, &arguments).unwrap();
                let expected = format!("{name} from 127.0.0.1 by https for for=127.0.0.1 {used}");
                assert_eq!(answer, expected, "{version} {tls:?}");
            }
            let head = curl(&balancer, &authority.root(), name, &[version, "-I"]).unwrap();
            assert!(head.to_ascii_lowercase().contains("strict-transport-security: max-age=86400"), "{head}");
        }
    }
    let refused = curl(&balancer, &authority.root(), "other.example", &[]).unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    let old = curl(&balancer, &authority.root(), "shop.example", &["--tls-max", "1.1"]);
    assert!(old.is_err(), "{old:?}");
}

#[test]
fn alpn_decides_the_protocol_whatever_bytes_a_client_sends() {
    let authority = Authority::new();
    let server = echo();
    let certificate = authority.issue("shop.example");
    let listen = format!("{{ address = \"127.0.0.1:0\", certificates = [{certificate}] }}");
    let balancer = listening(&server, &listen);
    let preface = &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..];
    let request = b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n";
    // After an invalid preface the server only sends SETTINGS (RFC 9113 section 3.4).
    let settings = &b"\0\0\x12\x04\0\0\0\0\0"[..];
    for (protocols, start, answer) in [
        (&["h2"][..], &request[..], settings),
        (&["h2"], b"INVALID\r\n\r\n", settings),
        (&["http/1.1"], preface, b"HTTP/1.1 505 "),
        (&[], preface, b"HTTP/1.1 505 "),
        (&[], request, b"HTTP/1.1 200 "),
    ] {
        let mut client = connect(&balancer, &authority, protocols);
        client.write_all(start).unwrap();
        let mut received = Vec::new();
        // Fails without a close_notify.
        client.read_to_end(&mut received).unwrap();
        assert!(received.starts_with(answer), "{protocols:?}: {}", received.escape_ascii());
        let is_http1 = received.windows(4).any(|part| part == b"HTTP");
        assert_eq!(is_http1, answer.starts_with(b"HTTP"), "{protocols:?}: {}", received.escape_ascii());
    }
    assert_eq!(server.requests().len(), 1, "only the last is a request");
}

#[test]
fn curl_sends_a_proxy_header_before_tls() {
    let authority = Authority::new();
    let certificate = authority.issue("shop.example");
    let server = echo();
    let listen =
        format!("{{ address = \"127.0.0.1:0\", proxy-protocol = true, certificates = [{certificate}] }}");
    let balancer = listening(&server, &listen);
    for version in ["--http1.1", "--http2"] {
        let arguments = [version, "--haproxy-protocol"];
        let answer = curl(&balancer, &authority.root(), "shop.example", &arguments).unwrap();
        assert_eq!(answer, "shop.example from 127.0.0.1 by https for for=127.0.0.1", "{version}");
        let without = curl(&balancer, &authority.root(), "shop.example", &[version]);
        assert!(without.is_err(), "{without:?}");
    }
}

#[test]
fn a_proxy_header_sets_the_client_address() {
    let server = echo();
    let balancer = listening(&server, "{ address = \"127.0.0.1:0\", proxy-protocol = true }");
    let four = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\x7f\x00\x00\x01\x10\x00\x00\x50";
    for (header, address) in [
        (&b"PROXY TCP4 203.0.113.7 127.0.0.1 4096 80\r\n"[..], "203.0.113.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 4096 80\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (four, "203.0.113.7"),
    ] {
        let mut client = crate::client::Client::connect(balancer.address);
        let answer = client.send(header).get("/");
        assert!(answer.text().contains(&format!("from {address} by http ")), "{}", answer.text());
        assert!(client.get("/").text().contains(address), "the connection keeps its client");
    }
    let mut client = crate::client::Client::connect(balancer.address);
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.is_closed());
}

#[test]
fn websockets_are_forwarded_under_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Fails for health checks.
            let Ok(mut socket) = tungstenite::accept(stream.unwrap()) else { continue };
            while let Ok(message) = socket.read() {
                if message.is_binary() && socket.send(message).is_err() {
                    break;
                }
            }
        }
    });
    let authority = Authority::new();
    let text = format!(
        "listen = [{{ address = \"127.0.0.1:0\", certificates = [{}] }}]\nservers = [\"{address}\"]\nhealth.interval = \"1h\"",
        authority.issue("shop.example")
    );
    let balancer = Running::with(Config::parse(&text, "test.toml").unwrap());
    let stream = connect(&balancer, &authority, &[]);
    let (mut socket, response) = tungstenite::client("wss://shop.example/chat", stream).unwrap();
    assert_eq!(response.status(), 101);
    for size in [0, 70_000, 1_000_000] {
        let message = Message::binary(vec![b'x'; size]);
        socket.send(message.clone()).unwrap();
        assert_eq!(socket.read().unwrap(), message);
    }
}

#[test]
fn the_disconnect_of_a_tls_client_from_an_idle_event_stream_frees_the_server_at_once() {
    for sends_close_notify in [true, false] {
        let (report, closed) = std::sync::mpsc::channel();
        let server = Backend::start(move |_, stream| {
            let start =
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\ndata: 1\n\n";
            stream.write_all(start).unwrap();
            assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
            report.send(()).unwrap();
            false
        });
        let authority = Authority::new();
        let pair = authority.issue("shop.example");
        let listen = format!("{{ address = '127.0.0.1:0', certificates = [{pair}] }}");
        let balancer = listening(&server, &listen);
        let mut client = connect(&balancer, &authority, &["http/1.1"]);
        client.write_all(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n").unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"data: 1\n\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            received.push(byte[0]);
        }
        if sends_close_notify {
            client.conn.send_close_notify();
            client.flush().unwrap();
        }
        drop(client);
        closed.recv_timeout(std::time::Duration::from_secs(3)).unwrap();
    }
}
