//! A server of HTTPS on localhost, with a certificate that clients must trust.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The server, which runs as long as the test.
pub(crate) struct HttpsServer {
    pub(crate) port: u16,
    /// Its certificate, in PEM.
    pub(crate) certificate: String,
}

impl HttpsServer {
    /// Starts it. `answer` gets the origin of the server and the path of a request, and returns the status with further
    /// header lines, and the body; or nothing, and the connection is closed.
    pub(crate) fn start(
        answer: impl Fn(&str, &str) -> Option<(String, String)> + Send + Sync + 'static,
    ) -> Self {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(pair.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![pair.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answer, config) = (Arc::new(answer), Arc::new(config));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, config) = (Arc::clone(&answer), Arc::clone(&config));
                // A client that goes away is its own business.
                std::thread::spawn(move || drop(serve(stream, config, port, &*answer)));
            }
        });
        Self { port, certificate: pair.cert.pem() }
    }

    pub(crate) fn origin(&self) -> String {
        origin(self.port)
    }
}

fn origin(port: u16) -> String {
    format!("https://localhost:{port}")
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    port: u16,
    answer: &impl Fn(&str, &str) -> Option<(String, String)>,
) -> std::io::Result<()> {
    let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let Some((head, body)) = answer(&origin(port), path) else { return Ok(()) };
    write!(stream, "HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())?;
    stream.flush()
}
