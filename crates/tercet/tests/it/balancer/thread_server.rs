//! Minimal servers as threads of the test, for tests in which only the balancer dies or changes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_tungstenite::tungstenite::{self, WebSocket, protocol::Role};

/// A server that answers everything at once, as long as the test runs.
pub(crate) struct ThreadServer {
    pub(crate) address: SocketAddr,
    /// Connections it has had so far, checks of the balancer's among them.
    pub(super) accepted: Arc<AtomicUsize>,
    /// Connections it has open.
    pub(super) open: Arc<AtomicUsize>,
    /// Requests it has got, checks left out.
    pub(super) requests: Arc<AtomicUsize>,
}

/// How a server answers.
#[derive(Clone, Copy)]
struct Behaviour {
    body: &'static str,
    /// The status of its answers to checks.
    health: &'static str,
    /// Whether a connection is closed after its first answer.
    closes: bool,
}

/// A request, as far as it matters here.
#[derive(Default)]
struct Request {
    /// Whether it is a check of the balancer's.
    is_check: bool,
    /// The key of a WebSocket handshake.
    key: Option<String>,
}

impl ThreadServer {
    pub(crate) fn answering(body: &'static str) -> Self {
        Self::start(Behaviour { body, health: "200 OK", closes: false })
    }

    /// A server that closes each connection after one answer.
    pub(super) fn closing(body: &'static str) -> Self {
        Self::start(Behaviour { body, health: "200 OK", closes: true })
    }

    /// A server that answers checks with 503, and requests, if it gets any, like a healthy one.
    pub(super) fn unhealthy() -> Self {
        Self::start(Behaviour { body: "unhealthy", health: "503 Service Unavailable", closes: false })
    }

    fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let started = Self {
            address: listener.local_addr().unwrap(),
            accepted: Arc::default(),
            open: Arc::default(),
            requests: Arc::default(),
        };
        let (accepted, open) = (Arc::clone(&started.accepted), Arc::clone(&started.open));
        let requests = Arc::clone(&started.requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                open.fetch_add(1, Ordering::SeqCst);
                let (open, requests) = (Arc::clone(&open), Arc::clone(&requests));
                std::thread::spawn(move || {
                    serve(stream, behaviour, &requests);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        started
    }
}

fn serve(mut stream: TcpStream, behaviour: Behaviour, requests: &AtomicUsize) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = read(&mut reader) {
        if let Some(key) = request.key {
            return echo(stream, &key);
        }
        if !request.is_check {
            requests.fetch_add(1, Ordering::SeqCst);
        }
        let status = if request.is_check { behaviour.health } else { "200 OK" };
        let length = behaviour.body.len();
        let connection = if behaviour.closes { "Connection: close\r\n" } else { "" };
        let answer =
            format!("HTTP/1.1 {status}\r\n{connection}Content-Length: {length}\r\n\r\n{}", behaviour.body);
        if stream.write_all(answer.as_bytes()).is_err() || behaviour.closes {
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let (mut request, mut length) = (Request::default(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let (name, value) = line.trim_end().split_once(": ").unwrap_or((line.trim_end(), ""));
        match (name.to_ascii_lowercase().as_str(), value) {
            ("", _) => {
                reader.read_exact(&mut vec![0; length]).ok()?;
                return Some(request);
            }
            ("user-agent", "tercet-balancer") => request.is_check = true,
            ("sec-websocket-key", key) => request.key = Some(key.to_owned()),
            ("content-length", value) => length = value.parse().unwrap(),
            _ => {}
        }
    }
}

/// Switches to a WebSocket that says everything back.
fn echo(mut stream: TcpStream, key: &str) {
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let switch = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(switch.as_bytes()).unwrap();
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    while let Ok(message) = socket.read() {
        if message.is_text() && socket.send(message).is_err() {
            return;
        }
    }
}
