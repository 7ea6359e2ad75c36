//! Servers of a few lines, as threads of the test: for where the balancer is what dies or changes.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_tungstenite::tungstenite;

/// A server that answers everything at once, as long as the test runs.
pub(super) struct StandIn {
    pub(super) address: SocketAddr,
    /// Connections it has had so far, checks of the balancer's among them.
    pub(super) accepted: Arc<AtomicUsize>,
    /// Connections it has open.
    pub(super) open: Arc<AtomicUsize>,
    /// Requests it has got, checks left out.
    pub(super) requests: Arc<AtomicUsize>,
}

/// What a stand-in answers.
#[derive(Clone, Copy)]
struct Manner {
    body: &'static str,
    /// The status of its answers to checks.
    health: &'static str,
}

/// Whoever asks for `/chat` gets a WebSocket that says everything back.
const CHAT: &[u8] = b"GET /chat ";

impl StandIn {
    pub(super) fn saying(body: &'static str) -> Self {
        Self::start(Manner { body, health: "200 OK" })
    }

    /// A server that answers checks with 503, and requests, if it gets any, like a healthy one.
    pub(super) fn unwell() -> Self {
        Self::start(Manner { body: "unwell", health: "503 Service Unavailable" })
    }

    fn start(manner: Manner) -> Self {
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
                    serve(stream, manner, &requests);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        started
    }
}

fn serve(mut stream: TcpStream, manner: Manner, requests: &AtomicUsize) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        // Between requests nothing is buffered. Heads come in one piece.
        let mut start = [0; CHAT.len()];
        if stream.peek(&mut start).is_ok() && start == CHAT {
            return echo(stream);
        }
        let Some(is_check) = read(&mut reader) else { return };
        if !is_check {
            requests.fetch_add(1, Ordering::SeqCst);
        }
        let status = if is_check { manner.health } else { "200 OK" };
        let length = manner.body.len();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{}", manner.body);
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Reads a request; whether it is a check of the balancer's.
fn read(reader: &mut BufReader<TcpStream>) -> Option<bool> {
    let (mut is_check, mut length) = (false, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            reader.read_exact(&mut vec![0; length]).ok()?;
            return Some(is_check);
        }
        is_check |= line == "user-agent: tercet-balancer";
        length = line.strip_prefix("content-length: ").map_or(length, |value| value.parse().unwrap());
    }
}

fn echo(stream: TcpStream) {
    let mut socket = tungstenite::accept(stream).unwrap();
    while let Ok(message) = socket.read() {
        if message.is_text() && socket.send(message).is_err() {
            return;
        }
    }
}
