//! Clients that send one request after another and record the outcome of each.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use super::process::TIMEOUT;

/// A connection that is kept as long as the other side keeps it.
pub(super) struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
    /// Connections made so far.
    pub(super) connections: usize,
}

/// The outcome of one request.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) client: usize,
    /// As `METHOD target`.
    pub(super) request: String,
    /// The status of a whole answer.
    pub(super) status: Result<u16, io::ErrorKind>,
    /// Connections its client has made so far.
    pub(super) connections: usize,
    /// Whether it was the first on its connection, or none could be made for it.
    pub(super) is_first: bool,
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, connection: None, connections: 0 }
    }

    /// Sends a request and reads the whole answer: its status and its body.
    pub(super) fn ask(&mut self, method: &str, target: &str, more: &str) -> io::Result<(u16, String)> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect()?,
        };
        let body = if method == "GET" { "" } else { "Content-Length: 2\r\n\r\nab" };
        let end = if body.is_empty() { "\r\n" } else { body };
        let request = format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{more}{end}");
        connection.get_mut().write_all(request.as_bytes())?;
        let (mut status, mut length, mut is_kept) = (None, 0, true);
        loop {
            let mut line = String::new();
            if connection.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            } else if status.is_none() {
                status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
            } else if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            } else if line == "connection: close" {
                is_kept = false;
            }
        }
        let mut body = vec![0; length];
        connection.read_exact(&mut body)?;
        self.connection = is_kept.then_some(connection);
        Ok((status.unwrap(), String::from_utf8(body).unwrap()))
    }

    fn connect(&mut self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        self.connections += 1;
        Ok(BufReader::new(stream))
    }
}

/// Sends one request on a new connection; returns the body of the response.
pub(crate) fn get(address: SocketAddr) -> io::Result<String> {
    Ok(Client::new(address).ask("GET", "/", "Connection: close\r\n")?.1)
}

/// The load.
pub(super) struct Load<'a> {
    pub(super) address: SocketAddr,
    pub(super) clients: usize,
    /// Each client's requests take them in turn.
    pub(super) methods: &'a [&'a str],
    /// Whether connections are kept from one request to the next.
    pub(super) keep_alive: bool,
    /// Of the requests that are not idempotent every so many starts with this.
    pub(super) swallowed: Option<(usize, &'a str)>,
}

impl Load<'_> {
    /// Sends requests while `during` runs, which can read the number of answered ones.
    pub(super) fn during<T>(&self, during: impl FnOnce(&AtomicUsize) -> T) -> (T, Vec<Outcome>) {
        let stop = AtomicBool::new(false);
        let (answered, outcomes) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let came_of_it = std::thread::scope(|scope| {
            for client in 0..self.clients {
                let (stop, answered, outcomes) = (&stop, &answered, &outcomes);
                scope.spawn(move || {
                    let own = self.run(client, stop, answered);
                    outcomes.lock().unwrap().extend(own);
                });
            }
            // Also when it fails: the clients would go on for ever.
            let _stop = Raised(&stop);
            during(&answered)
        });
        (came_of_it, outcomes.into_inner().unwrap())
    }

    fn run(&self, client: usize, stop: &AtomicBool, answered: &AtomicUsize) -> Vec<Outcome> {
        let mut connection = Client::new(self.address);
        let mut outcomes = Vec::new();
        let more = if self.keep_alive { "" } else { "Connection: close\r\n" };
        for number in 0.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let method = self.methods[number % self.methods.len()];
            let swallowed =
                self.swallowed.filter(|(every, _)| method == "POST" && number % every < self.methods.len());
            let target = format!("{}{client}-{number}", swallowed.map_or("/", |(_, start)| start));
            let is_first = connection.connection.is_none();
            let began = Instant::now();
            let status = connection.ask(method, &target, more).map(|answer| answer.0);
            if status.is_ok() {
                answered.fetch_add(1, Ordering::SeqCst);
            }
            outcomes.push(Outcome {
                client,
                request: format!("{method} {target}"),
                status: status.map_err(|error| error.kind()),
                connections: connection.connections,
                is_first,
                began,
                ended: Instant::now(),
            });
        }
        outcomes
    }
}

struct Raised<'a>(&'a AtomicBool);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
