//! A minimal HTTP client: one request, one connection, the whole response.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A request to be sent.
pub(crate) struct Request<'a> {
    method: &'a str,
    target: &'a str,
    /// The host, if it is not the address.
    host: Option<&'a str>,
    headers: Vec<(&'a str, &'a str)>,
    body: &'a str,
}

/// A response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

pub(crate) fn get(target: &str) -> Request<'_> {
    request("GET", target)
}

pub(crate) fn request<'a>(method: &'a str, target: &'a str) -> Request<'a> {
    Request { method, target, host: None, headers: Vec::new(), body: "" }
}

impl<'a> Request<'a> {
    pub(crate) fn header(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(crate) fn host(mut self, host: &'a str) -> Self {
        self.host = Some(host);
        self
    }

    pub(crate) fn json(mut self, body: &'a str) -> Self {
        self.body = body;
        self.header("content-type", "application/json")
    }

    /// Sends it and reads the answer to its end.
    pub(crate) fn send(self, address: SocketAddr) -> Answer {
        let Self { method, target, host, headers, body } = self;
        let host = host.map_or_else(|| address.to_string(), str::to_owned);
        let mut text = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        for (name, value) in headers {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        if method != "GET" {
            write!(text, "content-length: {}\r\n", body.len()).unwrap();
        }
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut answer =
            Answer { status: head[9..12].parse().unwrap(), head: head.to_owned(), body: body.to_owned() };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = unchunked(&answer.body);
        }
        answer
    }
}

/// A connection that is kept for one request after the other.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self(BufReader::new(stream))
    }

    /// Asks and reads an answer of a known length.
    pub(crate) fn get(&mut self, target: &str) -> Answer {
        write!(self.0.get_mut(), "GET {target} HTTP/1.1\r\nhost: shop.test\r\n\r\n").unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).unwrap(), 0, "closed after {head:?}");
        }
        let mut answer = Answer { status: head[9..12].parse().unwrap(), head, body: String::new() };
        let length = answer.header("content-length").unwrap().parse().unwrap();
        self.0.by_ref().take(length).read_to_string(&mut answer.body).unwrap();
        answer
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn value(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body += &after[..size];
        rest = after[size..].strip_prefix("\r\n").unwrap();
        if size == 0 {
            break;
        }
    }
    body
}
